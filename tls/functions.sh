# Shared by make-selfsigned.sh and make-ca-signed.sh, which source this file. POSIX sh.
#
# Files are made in a private directory below the target directory and moved into place when they are
# complete. So a private key is never readable by others and never incomplete.

# Names may hold asterisks, which the shell must not expand.
set -f

fail() {
    echo "$program: $*" >&2
    exit 1
}

misuse() {
    echo "$program: $*" >&2
    echo "Try '$program --help'." >&2
    exit 2
}

# Sets directory, days, force, tool, and names (separated by blanks) from the command line.
parse_arguments() {
    directory=. days=$default_days force=no tool= names=
    while [ $# -gt 0 ]; do
        case $1 in
            -h|--help) usage; exit 0 ;;
            -f|--force) force=yes; shift; continue ;;
            -o|-d|-t) [ $# -ge 2 ] || misuse "option $1 needs a value" ;;
            --) shift; break ;;
            -*) misuse "unknown option $1" ;;
            *) names="$names $1"; check_name "$1"; shift; continue ;;
        esac
        case $1 in
            -o) directory=$2 ;;
            -d) days=$2 ;;
            -t) tool=$2 ;;
        esac
        shift 2
    done
    for name in "$@"; do
        check_name "$name"
        names="$names $name"
    done
    check_arguments
}

check_arguments() {
    case $days in
        ''|0*|*[!0-9]*|??????*) misuse "-d wants a number of days from 1 to 36500, not '$days'" ;;
    esac
    [ "$days" -le 36500 ] || misuse "-d wants a number of days from 1 to 36500, not '$days'"
    [ -n "$names" ] || misuse "name the relay: the host name that clients connect to"
    set -- $names
    is_address "$1" && misuse "the first name must be a host name, not the address $1"
    [ -d "$directory" ] || fail "there is no directory $directory: make it first"
    [ -w "$directory" ] || fail "the directory $directory may not be written to: run as its owner or as root"
    choose_tool
}

check_name() {
    is_address "$1" && return
    case $1 in
        *[!A-Za-z0-9.*-]*|'')
            misuse "'$1' is neither a host name nor an address (write names with other letters in their xn-- form)" ;;
        .*|*..*|-*|*.-*|*-.*|*-) misuse "'$1' is not a host name" ;;
        '*.'*.*) case ${1#??} in *'*'*) misuse "'$1' has more than one asterisk" ;; esac ;;
        *'*'*) misuse "'$1': an asterisk stands for the first label only, as in *.example.com" ;;
    esac
    [ ${#1} -le 253 ] || misuse "'$1' is longer than the 253 characters of a host name"
}

# IPv6 addresses have a colon, IPv4 addresses only digits and dots.
is_address() {
    case $1 in
        *[!0-9A-Fa-f:.]*) return 1 ;;
        *:*) return 0 ;;
        *[!0-9.]*) return 1 ;;
        *.*.*.*) return 0 ;;
        *) return 1 ;;
    esac
}

choose_tool() {
    case $tool in
        openssl|certtool) command -v "$tool" >/dev/null || fail "$tool is not installed" ;;
        '')
            for tool in openssl certtool none; do
                command -v "$tool" >/dev/null && return
            done
            fail "neither openssl nor certtool is installed: install the package openssl or gnutls-bin" ;;
        *) misuse "-t wants openssl or certtool, not '$tool'" ;;
    esac
}

# Refuses to overwrite any of the files named.
keep_existing() {
    [ "$force" = yes ] && return
    for file in "$@"; do
        [ -e "$directory/$file" ] || [ -L "$directory/$file" ] || continue
        fail "$directory/$file exists and is kept: use -f to replace it, or -o DIR for another place"
    done
}

# Makes the private directory, which is removed at exit.
start_work() {
    umask 077
    work=$(mktemp -d "$directory/.msrprelay-tls.XXXXXX") || fail "cannot make files in $directory"
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
}

# Runs a command; its output is shown only when it fails.
run() {
    "$@" >"$work/log" 2>&1 && return
    cat "$work/log" >&2
    fail "$1 failed; nothing was changed"
}

# The common name has at most 64 characters; clients use the subjectAltName.
common_name() {
    set -- $names
    if [ ${#1} -le 64 ]; then echo "$1"; else echo msrprelay; fi
}

random_serial() {
    echo "0x$(openssl rand -hex 16)"
}

# new_key FILE: a P-256 private key.
new_key() {
    case $tool in
        openssl) run openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/$1" ;;
        certtool) run certtool --generate-privkey --key-type=ecdsa --curve=secp256r1 --no-text --outfile "$work/$1" ;;
    esac
}

# relay_profile: writes what the relay's certificate shall contain, in the language of the tool.
# It is a server to clients and a client to other relays (RFC 4976 section 9.2).
relay_profile() {
    case $tool in
        openssl)
            cat <<END
[req]
prompt = no
distinguished_name = subject
[subject]
CN = $(common_name)
[extensions]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
$1
subjectAltName = @names
[names]
END
            number=0
            for name in $names; do
                number=$((number + 1))
                if is_address "$name"; then echo "IP.$number = $name"; else echo "DNS.$number = $name"; fi
            done ;;
        certtool)
            echo "cn = \"$(common_name)\""
            echo "expiration_days = $days"
            echo signing_key
            echo tls_www_server
            echo tls_www_client
            for name in $names; do
                if is_address "$name"; then echo "ip_address = \"$name\""; else echo "dns_name = \"$name\""; fi
            done ;;
    esac >"$work/relay.profile"
}

# install_file MODE FILE: moves a finished file into place. It takes owner and mode of a file that it
# replaces, so that the relay's user can read the new key as well. A key is never readable by others.
install_file() {
    chmod "$1" "$work/$2"
    if [ -e "$directory/$2" ]; then
        chown --reference="$directory/$2" "$work/$2" 2>/dev/null || :
        chmod --reference="$directory/$2" "$work/$2" 2>/dev/null || :
        case $2 in *.key) chmod o= "$work/$2" ;; esac
    fi
    mv -f "$work/$2" "$directory/$2" || fail "cannot write $directory/$2"
}

# Prints the lines for config.ini, with absolute paths.
show_configuration() {
    place=$(cd "$directory" && pwd)
    cat <<END
Put into the [Relay] section of config.ini:

certificate = $place/relay.crt
key = $place/relay.key

If the relay runs as a user of its own, let that user's group read the key:
chgrp msrprelay $place/relay.key && chmod 0640 $place/relay.key
END
}
