# ---- frame: the words of agentalk/1 and their checks (docs/protocol.md) ----

is_decimal() { [[ ${#1} -le 15 && $1 = [0-9]* && $1 != *[!0-9]* && $1 != 0?* ]]; } # asked before arithmetic, where a[$(command)] runs

is_hex() { [[ ${#1} -eq $2 && $1 != *[!0-9a-f]* ]]; } # TEXT LENGTH

is_base64() { # canonical: whole groups, padding at the end, no stray bits before it
	[[ ${#1} -ge 4 && $((${#1} % 4)) -eq 0 && ${1:0:${#1}-2} != *[!A-Za-z0-9+/]* ]] &&
		case ${1:${#1}-3} in ?[A-Za-z0-9+/][A-Za-z0-9+/] | ?[AEIMQUYcgkosw048]= | [AQgw]==) ;; *) false ;; esac
}

is_name() { [[ ${#1} -le 32 && $1 =~ ^[a-z0-9][a-z0-9._-]*$ && $1 != *..* ]]; }

labelled() { printf 'agentalk/1 %s' "$*" | sha256; } # access KEY

id_of() { labelled "$@" | cut -c1-32; } # channel ACCESS; participant KEY NAME

aad() { AAD=agentalk/1$'\n'$CHANNEL$'\n'$1$'\n'$2$'\n'$3; } # FROM TO TYPE -> AAD

read_body() { # stdin -> BODY, the pieces between its NULs, which bash can't hold; BODY_BYTES
	local part='' n=0
	BODY=() BODY_BYTES=0
	while IFS= read -r -d '' part; do
		BODY[n++]=$part
		((BODY_BYTES += ${#part} + 1))
	done
	BODY[n]=$part
	((BODY_BYTES += ${#part}))
}

body() { # its bytes
	printf %s "${BODY[0]}" && { [ ${#BODY[@]} -lt 2 ] || printf '\0%s' "${BODY[@]:1}"; }
}

KNOWN='kind stream seq time after seen re challenge answer name part size sha256 pub sign final signature'
HEADER='^([a-z][a-z0-9-]*): ([!-~]|[!-~][ -~]*[!-~])$'

parse_frame() { # [BYTES, else the first line says it, as in in/]; stdin -> F_<name> of what is KNOWN, HEADERS without
	# signature, body; else WHY
	local line name names=' ' size=0 end='' bytes=${1:-}
	for name in $KNOWN; do printf -v "F_$name" %s ''; done
	HEADERS=''
	[ -n "$bytes" ] || read -r bytes
	while IFS= read -r line; do
		((size += ${#line} + 1))
		[ -n "$line" ] || { end=yes && break; }
		WHY=headers-too-long && [ "$size" -le 4096 ] && WHY=signature-not-last && [ -z "$F_signature" ] &&
			WHY=bad-header && [[ $line =~ $HEADER && ${#BASH_REMATCH[1]} -le 32 ]] || return 1
		name=${BASH_REMATCH[1]}
		WHY=twice && [[ $names != *" $name "* ]] || return 1
		names="$names$name "
		[[ " $KNOWN " != *" $name "* ]] || printf -v "F_$name" %s "${BASH_REMATCH[2]}"
		[ "$name" = signature ] || HEADERS="$HEADERS$line"$'\n'
	done
	WHY=no-empty-line && [ -n "$end" ] || return 1
	read_body
	WHY=bad-header && [ "$bytes" -eq $((size + BODY_BYTES)) ] # else headers had NULs, or the file was cut short
}

check_message() { # all or me; else WHY
	local d='(0|[1-9][0-9]{0,14})' x='[0-9a-f]' seen shape pairs=${F_seen//[!,]/}
	seen="$x{16} $d $d"
	[ "$1" = me ] || seen="$x{16} $d(,$x{16} $d)*"
	WHY=missing-header && [[ $F_kind && $F_stream && $F_seq && $F_time && $1:$F_after != me: ]] || return 1
	shape="^[1-9][0-9]{0,14} $d $d $d$"
	WHY=bad-decimal && [[ "$F_seq $F_time ${F_after:-0} ${F_size:-0}" =~ $shape ]] || return 1
	shape="^[a-z][a-z-]{0,15};$x{16};($x{32})?;($x{32})?;($x{64})?;($x{32} $x{16} $d)?;($seen)?;($d/$d)?$"
	WHY=bad-value && [[ "$F_kind;$F_stream;$F_challenge;$F_answer;$F_sha256;$F_re;$F_seen;$F_part" =~ $shape && ${#pairs} -lt 16 ]] &&
		[[ -z $F_part || ${F_part%/*} -ge 1 && ${F_part%/*} -le ${F_part#*/} ]]
}
