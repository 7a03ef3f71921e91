# ---- receive: from the bridge's answer to the log ----

# What is genuine goes into in/STREAM-all-SEQ or -me-SEQ, and from there, when it is its turn, into the log. Both can be
# done again, after a kill or beside another call, and change nothing then.

receive() { # SECONDS: one poll, and what came. Status 1: CODE and MESSAGE
	local epoch
	load
	epoch=$EPOCH
	request cursor GET "/poll?participant_id=$ID&since=$CURSOR&wait=$1&epoch=$epoch" '' '' $(($1 + 10)) &&
		is_decimal "$A1" && [ "$A1" -ge "$CURSOR" ] && [ "$A2" = "$epoch" ] || return 1
	take_in "$A1" "$epoch"
	holes
}

take_in() { # CURSOR EPOCH of $TMP/answer; after three seconds what is left waits for the next poll (CUT), but not for ever
	local word a b c d e f g from=$CURSOR end=$((SECONDS + 3))
	CUT=''
	while [ -z "$CUT" ] && read -r word a b c d e f g <&3; do
		[ "$word" != gap ] || a=$b
		is_decimal "$a" && [ "$a" -le "$1" ] || word=malformed a=$((CURSOR + 1))
		lock receive 10
		while [ "$word" = message ] || [ "$a" -gt "$CURSOR" ]; do
			RECORD='' CHANGED=''
			happen "$word" "$a" "$c" "$d" "$e" "$f" "$g"
			[ "$word" = malformed ] || [ "$a" -le "$CURSOR" ] || CURSOR=$a
			[ -n "$RECORD$CHANGED" ] || break
			# shellcheck disable=SC2086 # words of a safe alphabet
			! commit ${RECORD:--} || { from=$CURSOR && into_inbox && break; }
			[ "$EPOCH" = "$2" ] || return
		done
		[ "$SECONDS" -lt "$end" ] || { CUT=yes && [ $((CUTS += 1)) -le 8 ] || CUT=last; }
	done 3<"$TMP/answer"
	[ "$CURSOR" -eq "$from" ] || commit -
}

happen() { # an event: its words, but for the time
	case $1 in
		cursor) ;;
		message) message "${@:2}" ;;
		gap) RECORD='gap -' && ask ;;
		join | away | back | leave) ! is_hex "$3" 32 || [ "$3" = "$ID" ] || presence "$@" ;;
		*) tampered malformed-answer bridge ;;
	esac
}

ask() { # all for what we lack
	local i
	for ((i = 0; i < PEERS; i++)); do [ "${P_STATE[i]}" = gone ] || signal "$i" seen ''; done
}

early() { [ "$EPOCH" = "$BORN_EPOCH" ] && [ "$1" -lt "$BORN" ]; } # INDEX: did it happen before we came?

# A participant presents itself -> PEER, a new row where its keys are new. Status 1: that is no card of its.
card() { # ID NONCE CIPHERTEXT TAG
	local i
	aad "$1" '*' card
	unseal "$ROOM" "$ROOM_H" "$AAD" "$2" "$3" "$4" && parse_frame "$TMP/frame" "$FRAME_BYTES" && check_card "$1" ||
		tampered "card-$WHY" "${1:0:8}" || return
	for ((PEER = PEERS - 1; PEER >= 0; PEER--)); do
		[ "${P_ID[PEER]}:${P_PUB[PEER]}:${P_SIGN[PEER]}" != "$1:$F_pub:$F_sign" ] || return 0
	done
	! find_peer P_ID "$1" || RECORD="keys $F_name"
	# Who was there before us has said things that are not for us: its first message shows where ours begin.
	i=-
	[ -z "$BORN" ] || i=0
	new_row "$1" "$F_name" "$F_kind" "$F_pub" "$F_sign" new - - "$i" 0 0
}

new_row() { # the first columns of ROW -> PEER
	local i=$PEERS
	PEER=$i
	((PEERS += 1))
	# shellcheck disable=SC2086,SC2229
	read -r $ROW < <(printf '%s ' "$@" 0 0 0 $'0:0\n')
}

check_card() { # ID
	WHY=missing-header && [ -n "$F_kind" ] && [ -n "$F_name" ] && [ -n "$F_pub" ] && [ -n "$F_sign" ] || return 1
	WHY=bad-name && is_name "$F_name" || return 1
	WHY=bad-value && { [ "$F_kind" = agent ] || [ "$F_kind" = human ]; } || return 1
	WHY=bad-key && is_public_key "$F_pub" && is_public_key "$F_sign" || return 1
	WHY=wrong-id && [ "$(participant_of "$KEY" "$F_name")" = "$1" ]
}

presence() { # WORD INDEX ID REST
	local state
	CHANGED=yes
	if [ "$1" = join ]; then
		card "$3" "$4" "$5" "$6" || return 0
		state=${P_STATE[PEER]} P_STATE[PEER]=here
		if early "$2"; then
			[ "$state" != new ] || P_STATE[PEER]=gone
			return
		fi
		case $state in
			new | gone) RECORD=${RECORD:-"joined ${P_NAME[PEER]} ${P_KIND[PEER]}"} ;;
			lost) RECORD="back ${P_NAME[PEER]}" && signal "$PEER" seen '' ;;
		esac
	else
		early "$2" || ! find_peer P_ID "$3" && return
		state=${P_STATE[PEER]}
		case $1:$state in *:gone | away:away | back:here) return ;; away:*) state=away ;; back:*) state=here ;; *) state=gone ;; esac
		P_STATE[PEER]=$state RECORD="$1 ${P_NAME[PEER]}"
		[ "$4" != expired ] || RECORD="$RECORD expired"
	fi
}

message() { # INDEX FROM TO NONCE CIPHERTEXT TAG
	local to=all i name=${2:0:8} mark frame
	[ "$3" = '*' ] || to=me
	is_hex "$2" 32 && [ "$2" != "$ID" ] && [[ $3 = '*' || $3 = "$ID" ]] || tampered not-for-us bridge || return
	aad "$2" "$3" message
	WHY=unknown-sender
	for ((i = PEERS - 1; i >= 0; i--)); do
		[ "${P_ID[i]}" = "$2" ] || continue
		name=${P_NAME[i]}
		! opened "$i" "$to" "$4" "$5" "$6" || break
	done
	if [ "$i" -lt 0 ]; then # an earlier bearer of our name had it sealed for its keys, or its sender left before us
		early "$1" && [[ $to:$WHY = me:* || $WHY = unknown-sender ]] || tampered "$WHY" "$name"
		return
	fi
	stream_row "$i" || tampered too-many-streams "$name" || return
	mark="P_${to}[PEER]" mark=${!mark} frame=$S/in/$F_stream-$to-$F_seq
	{ printf '%s\n' "$HEADERS" && body; } >"$TMP/unsigned" || disk_full
	if [ -e "$frame" ]; then # here already; an emptied one is part of a file that is whole
		[ ! -s "$frame" ] || [ "$F_kind" = void ] || [ "$(sha256 <"$TMP/unsigned")" = "$(sha256 <"$frame")" ] || tampered two-with-one-number "$name" || return
		[ "$F_seq" -gt "$mark" ] || return
	else
		[ "$to" = me ] || [ "$F_seq" -gt "${P_BASE[PEER]}" ] || return
		mv "$TMP/unsigned" "$frame" || disk_full
	fi
	CHANGED=yes
	receipts "$to"
	raise "P_top_$to" "$F_seq"
	[ "$to" = all ] || raise P_top_all "$F_after"
	if [ "$F_seq" -le "$mark" ]; then act "$to" late; elif is_next "$to"; then turn "$to"; fi
}

opened() { # PEER TO NONCE CIPHERTEXT TAG: does it come from these keys?
	if [ "$2" = me ]; then
		direct_key "$1" && unseal "$DIRECT" "$DIRECT_H" "$AAD" "$3" "$4" "$5" && parse_frame "$TMP/frame" "$FRAME_BYTES" && check_message "$2"
	else
		unseal "$ROOM" "$ROOM_H" "$AAD" "$3" "$4" "$5" && parse_frame "$TMP/frame" "$FRAME_BYTES" && check_message "$2" || return 1
		WHY=unsigned && [ -n "$SIGNATURE" ] || return 1
		WHY=bad-signature
		verify "${P_SIGN[$1]}" "$SIGNATURE" < <(printf '%s\n\n%s\n' "$AAD" "$HEADERS" && body)
	fi
}

stream_row() { # a row of the keys -> PEER, the row of the stream, new if need be. Status 1: too many
	local rows=0
	for ((PEER = PEERS - 1; PEER >= 0; PEER--)); do
		[ "${P_PUB[PEER]}" = "${P_PUB[$1]}" ] || continue
		[ "${P_STREAM[PEER]}" != "$F_stream" ] || return 0
		((rows += 1))
	done
	PEER=$1
	if [ "${P_STREAM[PEER]}" != - ]; then
		[ "$rows" -lt 8 ] || return 1
		new_row "${P_ID[$1]}" "${P_NAME[$1]}" "${P_KIND[$1]}" "${P_PUB[$1]}" "${P_SIGN[$1]}" "${P_STATE[$1]}" - - 0 0 0
		P_STATE[$1]=gone
	fi
	P_STREAM[PEER]=$F_stream
	[ "${P_BASE[PEER]}" != - ] || P_BASE[PEER]=${F_after:-$((F_seq - 1))}
	P_all[PEER]=${P_BASE[PEER]} P_top_all[PEER]=${P_BASE[PEER]}
}

# shellcheck disable=SC2219 # (( )) takes no name from a variable
raise() { let "$1[PEER] = $1[PEER] < $2 ? $2 : $1[PEER]" || :; } # COLUMN NUMBER: to at least that, for PEER

receipts() { # TO: what the sender says that it has of ours
	local stream b d has=${P_HAS[PEER]}
	while read -r stream b d; do
		[ "$stream" = "$STREAM" ] || [ "$F_kind:$stream" = seen:0000000000000000 ] || continue
		is_decimal "$b" && is_decimal "${d:-0}" || continue
		[ "$1:$F_kind" != me:seen ] || has=0:0 # it lacks the rest
		[ "$b" -le "${has%:*}" ] || has=$b:${has#*:}
		[ "${d:-0}" -le "${has#*:}" ] || has=${has%:*}:$d
	done < <(printf '%s\n' "${F_seen//,/$'\n'}")
	P_HAS[PEER]=$has
	[ "$1:$F_kind" != me:seen ] || rewind "$PEER"
}

is_next() { # TO: of the sender in PEER? What was said to us alone waits for the broadcasts before it
	local mark="P_$1[PEER]"
	[ "$F_seq" -eq $((${!mark} + 1)) ] && { [ "$1" = all ] || [ "${F_after:-0}" -le "${P_all[PEER]}" ]; }
}

turn() { # TO
	raise "P_$1" "$F_seq"
	[ "${P_HOLE[PEER]}" = 0 ] || P_HOLE[PEER]=$((NOW))
	act "$1" -
}

act() { # TO LATE
	local file
	case $F_kind in
		text)
			((MESSAGES += 1))
			RECORD="msg ${P_NAME[PEER]} $1 $MESSAGES $BODY_BYTES $2 $MESSAGES-${P_NAME[PEER]}.txt $F_stream-$1-$F_seq"
			;;
		file) part "$@" ;;
		hello)
			[ -z "$F_challenge" ] || [ "${P_STATE[PEER]}" = gone ] ||
				signal "$PEER" welcome "challenge: $(challenge "$PEER")"$'\n'"answer: $F_challenge"$'\n'
			;;
		welcome)
			[ "$1:$F_answer" = "me:$(challenge hello)" ] || return
			paired
			[ -z "$F_challenge" ] || signal "$PEER" ready "answer: $F_challenge"$'\n'
			;;
		ready) [ "$1:$F_answer" != "me:$(challenge "$PEER")" ] || paired ;;
		bye)
			file=${F_final#*"$ID":} && file=${file%%,*}
			[ "$file" = "$F_final" ] || ! is_decimal "$file" || raise P_top_me "$file"
			[ "${P_STATE[PEER]}" = gone ] || { P_STATE[PEER]=gone && RECORD="leave ${P_NAME[PEER]}"; }
			;;
	esac
}

part() { # as act: one part of a file; where all are there, the file. Each has a second name in in/, by the file's sum
	local i n=${F_part#*/} key=$F_stream-$1-$F_seq name=${F_name##*/} sum=$F_sha256
	[ "${n:-9999}" -le 4096 ] && [ -n "$sum" ] || tampered bad-part "${P_NAME[PEER]}" || return
	ln -f "$S/in/$key" "$S/in/${key%-*}-$sum-$n-${F_part%/*}" || disk_full
	for ((i = n; i > 0; i--)); do [ -s "$S/in/${key%-*}-$sum-$n-$i" ] || return 0; done
	assemble "$key" >"$TMP/file" || disk_full
	[ "$(sha256 <"$TMP/file")" = "$sum" ] || tampered broken-file "${P_NAME[PEER]}" || return
	name=${name//[!A-Za-z0-9._-]/_}
	((MESSAGES += 1))
	RECORD="file ${P_NAME[PEER]} $1 $MESSAGES $(wc -c <"$TMP/file" | tr -d ' ') $2 $MESSAGES-${P_NAME[PEER]}-${name:0:80} $key"
}

assemble() { # KEY: the last part that came -> stdout
	local i n part
	parse_frame "$S/in/$1"
	n=${F_part#*/} part=$S/in/${1%-*}-$F_sha256-$n
	for ((i = 1; i <= n; i++)); do parse_frame "$part-$i" && body; done
}

into_inbox() { # what the RECORD has brought, if that has not been done
	local file
	# shellcheck disable=SC2086
	set -- $RECORD
	case ${1:-}:${7:-} in msg:* | file:*) [ ! -e "$S/inbox/$7" ] || return 0 ;; *) return 0 ;; esac
	if [ "$1" = msg ]; then parse_frame "$S/in/$8" && body; else assemble "$8"; fi >"$TMP/new" && mv "$TMP/new" "$S/inbox/$7" || disk_full
	[ "$1" = msg ] || for file in "$S/in/${8%-*}-$F_sha256-"*; do : >"$file"; done # it need not be there twice
}

paired() { [ "${P_PAIRED[PEER]}" = yes ] || { P_PAIRED[PEER]=yes && RECORD="paired ${P_NAME[PEER]}"; }; }

challenge() { # PEER, or `hello`: random to everybody else, and nothing to remember
	if [ "$1" = hello ]; then set -- "$STREAM"; else set -- "${P_PUB[$1]}"; fi
	printf '%s %s' "$SEED" "$1" | sha256 | cut -c1-32
}

release() { # PEER: what waited and is now next in line
	local to mark
	for to in me all me; do
		while PEER=$1 mark="P_${to}[PEER]" && mark=$S/in/${P_STREAM[PEER]}-$to-$((${!mark} + 1)) && [ -e "$mark" ]; do
			RECORD=''
			parse_frame "$mark" && is_next "$to" || break
			turn "$to"
			# shellcheck disable=SC2086
			! commit ${RECORD:--} || into_inbox
		done
	done
}

holes() { # a hole asks for what it lacks, waits a minute while nothing fills it, and is then announced and passed over
	local i to mark next file n
	HOLES=''
	for ((i = 0; i < PEERS; i++)); do
		release "$i"
		to=all
		[ "${P_all[i]}" -lt "${P_top_all[i]}" ] || to=me
		mark="P_${to}[i]" mark=${!mark} next="P_top_${to}[i]" next=$((${!next} + 1)) PEER=$i
		if [ "$next" -le $((mark + 1)) ]; then
			[ "${P_HOLE[i]}" = 0 ] || { P_HOLE[i]=0 && commit -; }
			continue
		fi
		HOLES=yes
		[ "${P_STATE[i]}" = gone ] || [ $((NOW - ASKED)) -lt 10 ] || { ASKED=$((NOW)) && signal "$i" seen ''; }
		if [ "${P_HOLE[i]}" = 0 ]; then
			P_HOLE[i]=$((NOW)) && commit -
		elif [ $((NOW - P_HOLE[i])) -ge 60 ]; then
			for file in "$S/in/${P_STREAM[i]}-$to-"*; do # up to the next that is there
				n=${file#"$S/in/${P_STREAM[i]}-$to-"}
				! is_decimal "$n" || [ "$n" -le "$mark" ] || [ "$n" -ge "$next" ] || next=$n
			done
			raise "P_$to" $((next - 1))
			! commit missed "${P_NAME[i]}" $((next - 1 - mark)) || release "$i"
		fi
	done
}
