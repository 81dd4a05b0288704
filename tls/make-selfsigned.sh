#!/bin/sh
# Makes a self-signed certificate and its private key for msrprelay.

program=${0##*/}
default_days=825

usage() {
    cat <<END
Usage: $program [-o DIR] [-d DAYS] [-f] [-t TOOL] NAME [NAME|ADDRESS ...]

Makes relay.crt, a self-signed certificate, and relay.key, its private key (P-256).
NAME is the host name that clients connect to; further names and addresses are
added to the certificate. *.example.com covers the names below example.com.

  -o DIR     where the files go (default: the current directory)
  -d DAYS    how long the certificate is valid (default: $default_days)
  -f         replace files that exist; they keep their owner and mode
  -t TOOL    openssl or certtool (default: whichever is installed)
  -h, --help this text

Example: $program -o /etc/msrprelay/tls relay.example.com
END
}

. "$(dirname "$(readlink -f "$0")")/functions.sh" || exit 1

parse_arguments "$@"
keep_existing relay.crt relay.key
start_work
new_key relay.key
relay_profile
case $tool in
    openssl)
        run openssl req -new -x509 -sha256 -days "$days" -set_serial "$(random_serial)" \
            -config "$work/relay.profile" -extensions extensions \
            -key "$work/relay.key" -out "$work/relay.crt" ;;
    certtool)
        run certtool --generate-self-signed --no-text --hash=SHA256 --template "$work/relay.profile" \
            --load-privkey "$work/relay.key" --outfile "$work/relay.crt" ;;
esac
install_file 600 relay.key
install_file 644 relay.crt
echo "Made relay.crt (self-signed, valid for $days days) and relay.key for$names."
show_configuration
