# ---- frames and their checks (docs/protocol.md) ----

is_decimal() { [[ ${#1} -le 15 && $1 = [0-9]* && $1 != *[!0-9]* && $1 != 0?* ]]; } # asked before arithmetic, which can run a program

is_name() { # of a participant
	[[ ${#1} -le 32 && $1 =~ ^[a-z0-9][a-z0-9._-]*$ && $1 != *..* ]] || return
	case $1 in agentalk | all | bridge | everybody | me | user | you) return 1 ;; esac
}

set_aad() { AAD=agentalk/1$'\n'$CHANNEL$'\n'$1$'\n'$2$'\n'$3; } # FROM TO TYPE -> AAD

split_lines() { # TEXT -> LINES, without the empty ones
	local IFS=$'\n'
	LINES=($1)
}

HEADERS='kind seq time sent received seen stored reach name size sha256 pub sign signature'
HEADER_LINE='^([a-z][a-z0-9-]*): ([!-~]|[!-~][ -~]*[!-~])$'
NUMBER='(0|[1-9][0-9]{0,14})'

parse_frame() { # BYTES -> MSG_… for each header; UNSIGNED: all headers but the signature; BODY, BODY_LENGTH
	local line name names=' ' head=$'\n'${BYTES[0]:0:4097}
	for name in $HEADERS; do printf -v "MSG_$name" %s ''; done
	UNSIGNED=''
	REASON=unterminated-headers
	[[ $head = *$'\n\n'* ]] || return # also where they are longer than 4096 bytes
	head=${head%%$'\n\n'*}
	BODY=("${BYTES[@]}") BODY_LENGTH=$((BYTES_LENGTH - ${#head} - 1))
	BODY[0]=${BODY[0]:${#head}+1}
	split_lines "$head"
	for line in "${LINES[@]}"; do
		REASON=bad-header
		[[ -z $MSG_signature && $line =~ $HEADER_LINE && ${#BASH_REMATCH[1]} -le 32 ]] || return
		name=${BASH_REMATCH[1]}
		REASON=duplicate-header
		[[ $names != *" $name "* ]] || return
		names+="$name "
		[[ " $HEADERS " != *" $name "* ]] || printf -v "MSG_$name" %s "${BASH_REMATCH[2]}"
		[ "$name" = signature ] || UNSIGNED+="$line"$'\n'
	done
	UNSIGNED+=$'\n'
}

check_card() { # ID it came under. Status 1: REASON
	REASON=bad-name && is_name "$MSG_name" && REASON=bad-header-value && [[ $MSG_kind = agent || $MSG_kind = human ]] &&
		REASON=bad-key && is_public_key "$MSG_pub" && is_public_key "$MSG_sign" && REASON=id-mismatch || return
	short_id participant "$KEY" "$MSG_name"
	[[ $HASH = "$1" && $1 != "$ID" ]]
}

is_control() { case $MSG_kind in sync | ack | want | bye) ;; *) return 1 ;; esac }

check_message() { # DIRECT (yes or nothing). Status 1: malformed. A header without a place here is ignored
	local entry="[0-9a-f]{16} $NUMBER $NUMBER( left)?" commas
	! is_control || MSG_seen=''
	[[ $MSG_kind = sync || $MSG_kind = ack ]] || MSG_stored=''
	[ -n "$1" ] || MSG_sent='' MSG_received=''
	commas=${MSG_seen//[!,]/}
	[[ -z $MSG_seq || $MSG_seq =~ ^[1-9][0-9]{0,14}$ ]] || return
	[[ $MSG_kind =~ ^[a-z][a-z-]{0,15}$ && $MSG_time =~ ^$NUMBER$ ]] || return
	[[ -z $MSG_reach || $MSG_reach = listening || $MSG_reach = wakes || $MSG_reach = reads ]] || return
	[[ -z $MSG_seen || ${#commas} -lt 64 && $MSG_seen =~ ^$entry(,$entry)*$ ]] || return
	[[ -z $MSG_stored || $MSG_stored =~ ^$NUMBER\ $NUMBER$ ]] || return
	[[ -z $1 || $MSG_sent =~ ^[1-9][0-9]{0,14}\ $NUMBER\ $NUMBER$ && $MSG_received =~ ^$NUMBER\ $NUMBER\ $NUMBER$ ]] || return
	case $MSG_kind in
		file)
			[ -n "$MSG_seq" ] && decode_name "$MSG_name" && is_hex "$MSG_sha256" 64 && is_decimal "$MSG_size" &&
				((MSG_size <= 104857600))
			;;
		sync | ack | want | bye) [[ $1 && -z $MSG_seq ]] ;;
		*) [ -n "$MSG_seq" ] ;;
	esac
}
