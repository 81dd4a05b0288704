#!/bin/sh
# Makes a certificate authority, and a certificate for msrprelay signed by it.

program=${0##*/}
default_days=825
ca_days=3650

usage() {
    cat <<END
Usage: $program [-o DIR] [-d DAYS] [-f] [-t TOOL] NAME [NAME|ADDRESS ...]

Makes relay.crt, a certificate signed by an authority of your own, and relay.key,
its private key (P-256). The authority is ca.crt and ca.key in the same directory:
made if both are missing (valid for $ca_days days), used if they are there, and never
replaced, so that programs that trust ca.crt go on trusting new certificates.
NAME is the host name that clients connect to; further names and addresses are
added to the certificate. *.example.com covers the names below example.com.

  -o DIR     where the files go (default: the current directory)
  -d DAYS    how long the relay's certificate is valid (default: $default_days)
  -f         replace relay.crt and relay.key; they keep their owner and mode
  -t TOOL    openssl or certtool (default: whichever is installed)
  -h, --help this text

Give ca.crt to the programs that shall trust the relay; keep ca.key secret, best
on another machine.

Example: $program -o /etc/msrprelay/tls relay.example.com
END
}

. "$(dirname "$(readlink -f "$0")")/functions.sh" || exit 1

make_authority() {
    new_key ca.key
    identity="msrprelay CA of $(common_name | cut -c1-47)"
    case $tool in
        openssl)
            cat >"$work/ca.profile" <<END
[req]
prompt = no
distinguished_name = subject
[subject]
CN = $identity
[extensions]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
END
            run openssl req -new -x509 -sha256 -days "$ca_days" -set_serial "$(random_serial)" \
                -config "$work/ca.profile" -extensions extensions \
                -key "$work/ca.key" -out "$work/ca.crt" ;;
        certtool)
            cat >"$work/ca.profile" <<END
cn = "$identity"
expiration_days = $ca_days
ca
path_len = 0
cert_signing_key
crl_signing_key
END
            run certtool --generate-self-signed --no-text --hash=SHA256 --template "$work/ca.profile" \
                --load-privkey "$work/ca.key" --outfile "$work/ca.crt" ;;
    esac
    authority=made
}

use_authority() {
    cp "$directory/ca.crt" "$directory/ca.key" "$work/" || fail "cannot read the authority in $directory"
    authority=used
}

sign_relay() {
    case $tool in
        openssl)
            run openssl req -new -sha256 -config "$work/relay.profile" \
                -key "$work/relay.key" -out "$work/relay.csr"
            run openssl x509 -req -sha256 -days "$days" -set_serial "$(random_serial)" \
                -extfile "$work/relay.profile" -extensions extensions \
                -CA "$work/ca.crt" -CAkey "$work/ca.key" -in "$work/relay.csr" -out "$work/relay.crt" ;;
        certtool)
            run certtool --generate-certificate --no-text --hash=SHA256 --template "$work/relay.profile" \
                --load-privkey "$work/relay.key" --load-ca-certificate "$work/ca.crt" \
                --load-ca-privkey "$work/ca.key" --outfile "$work/relay.crt" ;;
    esac
}

parse_arguments "$@"
keep_existing relay.crt relay.key
start_work
if [ -e "$directory/ca.crt" ] && [ -e "$directory/ca.key" ]; then
    use_authority
elif [ -e "$directory/ca.crt" ] || [ -e "$directory/ca.key" ]; then
    fail "only one of ca.crt and ca.key is in $directory: bring the other one back, or move this one away to make a new authority"
else
    make_authority
fi
new_key relay.key
relay_profile "authorityKeyIdentifier = keyid"
sign_relay
install_file 600 relay.key
install_file 644 relay.crt
if [ "$authority" = made ]; then
    install_file 600 ca.key
    install_file 644 ca.crt
    echo "Made the authority ca.crt (valid for $ca_days days) and ca.key."
else
    echo "Used the authority ca.crt and ca.key that were there."
fi
echo "Made relay.crt (signed by it, valid for $days days) and relay.key for$names."
show_configuration
