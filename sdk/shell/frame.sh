# ---- frame: the words of agentalk/1 and their checks (docs/protocol.md) ----

is_decimal() { # asked before any arithmetic: a[$(command)] would run there
	case $1 in '' | *[!0-9]* | 0?*) return 1 ;; esac
	[ ${#1} -le 15 ]
}

is_hex() { # TEXT LENGTH
	case $1 in *[!0-9a-f]*) return 1 ;; esac
	[ ${#1} -eq "$2" ]
}

is_base64() { # canonical: whole groups, padding at the end, no stray bits before it
	case $1 in
		'' | *[!A-Za-z0-9+/=]* | *=*[!=]* | *===) return 1 ;;
		*==) case $1 in *[AQgw]==) ;; *) return 1 ;; esac ;;
		*=) case $1 in *[AEIMQUYcgkosw048]=) ;; *) return 1 ;; esac ;;
	esac
	[ $((${#1} % 4)) -eq 0 ]
}

is_name() {
	case $1 in '' | [!a-z0-9]* | *[!a-z0-9._-]* | *..*) return 1 ;; esac
	[ ${#1} -le 32 ]
}

labelled() { printf 'agentalk/1 %s' "$*" | sha256; }

access_of() { labelled access "$1"; }                             # KEY
channel_of() { labelled channel "$1" | cut -c1-32; }              # ACCESS
participant_of() { labelled participant "$1" "$2" | cut -c1-32; } # KEY NAME

aad() { AAD=agentalk/1$'\n'$CHANNEL$'\n'$1$'\n'$2$'\n'$3; } # FROM TO TYPE -> AAD

# Takes a frame apart: HEADERS (its lines but the signature), SIGNATURE, each header that we know in F_<name>, BODY_BYTES,
# and BODY; but of a body with NUL bytes, which bash can't hold, BINARY, the file, and BODY_AT, its first byte there.
KNOWN=' kind stream seq time after seen re challenge answer name part size sha256 pub sign final '

parse_frame() { # FILE [BYTES, which it must have]; else WHY
	local line name value names=' ' end='' size=${2:-}
	for name in $KNOWN; do printf -v "F_$name" %s ''; done
	SIGNATURE='' HEADERS='' BODY_AT=1 BINARY=''
	{
		while IFS= read -r line; do
			((BODY_AT += ${#line} + 1))
			[ -n "$line" ] || { end=yes && break; }
			WHY=headers-too-long && [ "$BODY_AT" -le 4097 ] || return 1
			WHY=signature-not-last && [ -z "$SIGNATURE" ] || return 1
			name=${line%%: *} value=${line#*: } WHY=bad-header
			case $line in *[!\ -~]* | *' ') return 1 ;; *': '[!\ ]*) ;; *) return 1 ;; esac
			case $name in '' | [!a-z]* | *[!a-z0-9-]*) return 1 ;; esac
			[ ${#name} -le 32 ] || return 1
			case $names in *" $name "*) WHY=twice && return 1 ;; esac
			names="$names$name "
			case $KNOWN in *" $name "*) printf -v "F_$name" %s "$value" ;; esac
			if [ "$name" = signature ]; then SIGNATURE=$value; else HEADERS="$HEADERS$line"$'\n'; fi
		done
		WHY=no-empty-line && [ -n "$end" ] || return 1
		! IFS= read -r -d '' BODY || BINARY=$1
	} <"$1"
	[ -z "$BINARY" ] || size=$(wc -c <"$1")
	BODY_BYTES=$((${size:-BODY_AT - 1 + ${#BODY}} - BODY_AT + 1))
	[ -n "$BINARY" ] || [ ${#BODY} -ne "$BODY_BYTES" ] || return 0
	# `read` drops NUL bytes, and headers that had some are not what was sealed.
	WHY=bad-header
	case $(od -An -v -tx1 -N$((BODY_AT - 1)) "$1") in *' 00'*) return 1 ;; esac
}

body() { # its bytes
	if [ -n "$BINARY" ]; then tail -c "+$BODY_AT" "$BINARY"; else printf %s "$BODY"; fi
}

check_message() { # all or me: what every such message has to say before anything is believed of it; else WHY
	local d='(0|[1-9][0-9]{0,14})' x='[0-9a-f]' seen
	seen="$x{16} $d(,$x{16} $d){0,15}"
	[ "$1" = all ] || seen="$x{16} $d $d"
	WHY=missing-header && [ -n "$F_kind" ] && [ -n "$F_stream" ] && [ -n "$F_seq" ] && [ -n "$F_time" ] &&
		[ "$1:$F_after" != me: ] || return 1
	WHY=bad-decimal && is_decimal "$F_seq" && is_decimal "$F_time" && is_decimal "${F_after:-0}" &&
		is_decimal "${F_size:-0}" && [ "$F_seq" != 0 ] || return 1
	WHY=bad-value && shaped "$F_kind" '[a-z][a-z-]{0,15}' && shaped "$F_stream" "$x{16}" &&
		shaped "$F_challenge" "$x{32}" && shaped "$F_answer" "$x{32}" && shaped "$F_sha256" "$x{64}" &&
		shaped "$F_re" "$x{32} $x{16} $d" && shaped "$F_seen" "$seen" && shaped "$F_part" "$d/$d" || return 1
	[ -z "$F_part" ] || { [ "${F_part%/*}" -ge 1 ] && [ "${F_part%/*}" -le "${F_part#*/}" ]; }
}

shaped() { [ -z "$1" ] || [[ $1 =~ ^$2$ ]]; } # VALUE PATTERN
