# ---- receive: from the bridge's answer to the log ----

# What is genuine goes into in/STREAM-all-SEQ or -me-SEQ, and from there, when it is its turn, into the log. Done again,
# after a kill or beside another call, both change nothing.

receive() { # SECONDS: one poll, and what came. Status 1: CODE and MESSAGE
	catch_up
	local epoch=$EPOCH
	request cursor GET "/poll?participant_id=$ID&since=$CURSOR&wait=$1&epoch=$epoch" '' '' $(($1 + 10)) &&
		is_decimal "$A1" && [ "$A1" -ge "$CURSOR" ] && [ "$A2" = "$epoch" ] || return
	take_in "$A1" "$epoch"
	holes
}

take_in() { # CURSOR EPOCH of $TMP.answer; what is left after three seconds waits for the next poll: CUT
	local word a b c d e f g from=$CURSOR end=$((SECONDS + 3))
	CUT=''
	while [ -z "$CUT" ] && read -r word a b c d e f g <&3; do
		[ "$word" != gap ] || a=$b
		is_decimal "$a" && [ "$a" -le "$1" ] || word=malformed a=$((CURSOR + 1))
		lock receive 10
		while [ "$word" = message ] || [ "$a" -gt "$CURSOR" ]; do
			RECORD='' CHANGED=''
			case $word in
				cursor) ;;
				message) message "$a" "$c" "$d" "$e" "$f" "$g" ;;
				gap) RECORD='gap -' && ask ;;
				join | away | back | leave) ! is_hex "$c" 32 || [ "$c" = "$ID" ] || presence "$word" "$a" "$c" "$d" "$e" "$f" ;;
				*) tampered malformed-answer bridge ;;
			esac
			[ "$word" = malformed ] || [ "$a" -le "$CURSOR" ] || CURSOR=$a
			[ -n "$RECORD$CHANGED" ] || break
			! commit "${RECORD:--}" || { from=$CURSOR && into_inbox && break; }
			[ "$EPOCH" = "$2" ] || return
		done
		((SECONDS < end)) || CUT=30
	done 3<"$TMP.answer"
	((CURSOR == from)) || commit -
}

ask() { # all, for what we lack; not again while the last time waits to be handed over
	local i key kind
	for ((i = 0; i < PEERS; i++)); do
		[[ ${P_STATE[i]} = [ha]* ]] || continue # here or away
		sent
		while ((MOST += 1)) && read -r key _ _ _ _ kind _ <"$S/outbox/$MOST"; do [ "$key$kind" != "${P_PUB[i]:36:20}seen" ] || continue 2; done
		signal "$i" seen ''
	done
}

card() { # ID NONCE CIPHERTEXT TAG -> PEER, a new row where its keys are new. Status 1: that is no card of its
	local base
	aad "$1" '*' card
	unseal "$S/direct/room" "$AAD" "$2" "$3" "$4" && check_card "$1" ||
		tampered "card-$WHY" "${1:0:8}" || return
	for ((PEER = PEERS - 1; PEER >= 0; PEER--)); do
		[ "${P_ID[PEER]}:${P_PUB[PEER]}:${P_SIGN[PEER]}" != "$1:$F_pub:$F_sign" ] || return 0
	done
	! find_peer P_ID "$1" || RECORD="keys $F_name"
	# Of who was there before us, the first message shows where it began to speak to us.
	base=-
	[ "$EPOCH" = 0 ] || base=0
	new_row "$1" "$F_name" "$F_kind" "$F_pub" "$F_sign" new - - "$base"
}

check_card() { # ID
	WHY=missing-header && [[ $F_kind && $F_name && $F_pub && $F_sign ]] && WHY=bad-name && is_name "$F_name" &&
		WHY=bad-value && [[ $F_kind = agent || $F_kind = human ]] && WHY=bad-key && is_public_key "$F_pub" &&
		is_public_key "$F_sign" && WHY=wrong-id && [ "$(id_of participant "$KEY" "$F_name")" = "$1" ]
}

new_row() { # the columns to P_BASE -> PEER
	local i=$PEERS
	PEER=$i
	((PEERS += 1))
	# shellcheck disable=SC2086,SC2229
	read -r $ROW < <(printf '%s ' "$@" 0 0 0 0 0 $'0:0\n')
}

presence() { # WORD INDEX ID REST
	local state
	if [ "$1" = join ]; then CHANGED=yes && card "$3" "$4" "$5" "$6"; else find_peer P_ID "$3"; fi || return
	state=${P_STATE[PEER]}
	if [[ $2 -lt $PAST && $state != lost ]]; then # it happened before we came
		[ "$state" != new ] || P_STATE[PEER]=gone
		return
	fi
	case $1:$state in
		join:new | join:gone) RECORD=${RECORD:-"joined ${P_NAME[PEER]} ${P_KIND[PEER]}"} ;;
		join:lost) RECORD="back ${P_NAME[PEER]}" && rewind "$PEER" ;;
		join:*) ;;
		*:gone | away:away | back:here) return ;;
		*) RECORD="$1 ${P_NAME[PEER]}" && [ "$4" != expired ] || RECORD="$RECORD expired" ;;
	esac
	case $1 in away) P_STATE[PEER]=away ;; leave) P_STATE[PEER]=gone ;; *) P_STATE[PEER]=here ;; esac
}

message() { # INDEX FROM TO NONCE CIPHERTEXT TAG
	local to=all i name=${2:0:8} mark frame
	[ "$3" = '*' ] || to=me
	is_hex "$2" 32 && [[ $2 != "$ID" && ($to = all || $3 = "$ID") ]] || tampered not-for-us bridge || return
	aad "$2" "$3" message
	WHY=unknown-sender
	for ((i = PEERS - 1; i >= 0; i--)); do
		[ "${P_ID[i]}" = "$2" ] || continue
		name=${P_NAME[i]}
		! opened "$i" "$to" "$4" "$5" "$6" || break
	done
	if [ "$i" -lt 0 ]; then # for an earlier bearer of our name, or of one who left before us
		[[ $1 -lt $PAST && ($to:$WHY = me:* || $WHY = unknown-sender) ]] || tampered "$WHY" "$name"
		return
	fi
	stream_row "$i" || tampered too-many-streams "$name" || return
	mark="P_${to}[PEER]" mark=${!mark} frame=$S/in/$F_stream-$to-$F_seq
	if is_whole "$frame"; then # here already
		[ "$BYTES" = 0 ] || [ "$F_kind" = void ] || [ "$(kept | sha256)" = "$(sha256 <"$frame")" ] || tampered two-with-one-number "$name" || return
		[ "$F_seq" -gt "$mark" ] || return
	else
		[ "$to" = me ] || [ "$F_seq" -gt "${P_BASE[PEER]}" ] || return
		kept >"$frame" || disk_full
	fi
	CHANGED=yes
	receipts "$to"
	raise "P_top_$to" "$F_seq"
	raise P_top_all "${F_after:-0}"
	if [ "$F_seq" -le "$mark" ]; then act "$to" late; elif is_next "$to"; then turn "$to"; fi
}

kept() { printf '%s\n' $((${#HEADERS} + 1 + BODY_BYTES)) "$HEADERS" && body; } # the frame as in in/

is_whole() { # FILE in in/: no call was killed in the middle of it -> BYTES, 0 where they are in inbox/
	BYTES=''
	read -r BYTES <"$1" && [ $((BYTES + 1 + ${#BYTES})) -eq $(($(wc -c <"$1"))) ]
}

opened() { # PEER TO NONCE CIPHERTEXT TAG: does it come from these keys?
	local key=$S/direct/room
	[ "$2" = all ] || { direct_key "$1" && key=$DIRECT; } || return
	unseal "$key" "$AAD" "$3" "$4" "$5" && check_message "$2" || return
	[ "$2" != me ] || return 0
	WHY=unsigned && [ -n "$F_signature" ] || return
	{ printf '%s\n\n%s\n' "$AAD" "$HEADERS" && body; } >"$TMP.signed" || disk_full
	WHY=bad-signature && verify "${P_SIGN[$1]}" "$F_signature" "$TMP.signed"
}

stream_row() { # a row of its keys -> PEER, the row of the stream. Status 1: too many
	local rows=0
	for ((PEER = PEERS - 1; PEER >= 0; PEER--)); do
		[ "${P_PUB[PEER]}" = "${P_PUB[$1]}" ] || continue
		[ "${P_STREAM[PEER]}" != "$F_stream" ] || return 0
		((rows += 1))
	done
	PEER=$1
	if [ "${P_STREAM[PEER]}" != - ]; then
		[ "$rows" -lt 8 ] || return
		new_row "${P_ID[$1]}" "${P_NAME[$1]}" "${P_KIND[$1]}" "${P_PUB[$1]}" "${P_SIGN[$1]}" "${P_STATE[$1]}" - - 0
		P_STATE[$1]=gone
	fi
	P_STREAM[PEER]=$F_stream
	[ "${P_BASE[PEER]}" != - ] || P_BASE[PEER]=${F_after:-$((F_seq - 1))}
	P_all[PEER]=${P_BASE[PEER]} P_top_all[PEER]=${P_BASE[PEER]}
}

# shellcheck disable=SC2219 # (( )) takes no name from a variable
raise() { let "$1[PEER] = $1[PEER] < $2 ? $2 : $1[PEER]" || :; } # COLUMN NUMBER: to at least that, for PEER

receipts() { # TO: what it has of ours; `seen` asks for the rest
	local b=0 d=0 has=${P_HAS[PEER]}
	case $F_seen in *"$STREAM "*) b=${F_seen##*"$STREAM "} b=${b%%,*} && [ "$1" = all ] || d=${b#* } b=${b% *} ;; esac
	[ "$1:$F_kind" != me:seen ] || has=0:0
	P_HAS[PEER]=$((b > ${has%:*} ? b : ${has%:*})):$((d > ${has#*:} ? d : ${has#*:}))
	[ "$1:$F_kind" != me:seen ] || rewind "$PEER"
}

is_next() { # TO. What was said to us alone waits for the broadcasts before it
	local mark="P_$1[PEER]"
	[[ $F_seq -eq $((${!mark} + 1)) && ($1 = all || $F_after -le ${P_all[PEER]}) ]]
}

turn() { # TO
	raise "P_$1" "$F_seq"
	[ "${P_HOLE[PEER]}" = 0 ] || P_HOLE[PEER]=$((NOW))
	act "$1" -
}

act() { # TO LATE
	local name=${P_NAME[PEER]} key=$F_stream-$1-$F_seq n
	case $F_kind in
		text) ((MESSAGES += 1)) && RECORD="msg $name $1 $MESSAGES $BODY_BYTES $2 $MESSAGES-$name.txt $key" ;;
		file) part "$@" ;;
		hello)
			[ -z "$F_challenge" ] || [ "${P_STATE[PEER]}" = gone ] ||
				signal "$PEER" welcome "challenge: $(challenge "${P_PUB[PEER]}")"$'\n'"answer: $F_challenge"$'\n'
			;;
		welcome)
			[ "$1:$F_answer" = "me:$(challenge hello)" ] || return
			paired
			[ -z "$F_challenge" ] || signal "$PEER" ready "answer: $F_challenge"$'\n'
			;;
		ready) [ "$1:$F_answer" != "me:$(challenge "${P_PUB[PEER]}")" ] || paired ;;
		bye)
			n=${F_final#*"$ID":} n=${n%%,*}
			[ "$n" = "$F_final" ] || ! is_decimal "$n" || raise P_top_me "$n"
			[ "${P_STATE[PEER]}" = gone ] || { P_STATE[PEER]=gone && RECORD="leave $name"; }
			;;
	esac
}

paired() { [ "${P_PAIRED[PEER]}" = yes ] || { P_PAIRED[PEER]=yes && RECORD="paired ${P_NAME[PEER]}"; }; }

challenge() { id_of challenge "$SEED" "$STREAM" "$1"; } # hello, or a peer's key

part() { # as act. Each has a second name in in/, by its file's sum; where all are there, the file
	local i n=${F_part#*/} name=${F_name##*/} all=$S/in/${key%-*}-$F_sha256-${F_part#*/}
	[ "${n:-9999}" -le 4096 ] && [ -n "$F_sha256" ] || tampered bad-part "${P_NAME[PEER]}" || return
	ln -f "$S/in/$key" "$all-${F_part%/*}" || disk_full
	for ((i = n; i > 0; i--)); do is_whole "$all-$i" && [ "$BYTES" != 0 ] || return 0; done
	assemble "$key" >"$TMP.file" || disk_full
	[ "$(sha256 <"$TMP.file")" = "$F_sha256" ] || tampered broken-file "${P_NAME[PEER]}" || return
	((MESSAGES += 1))
	name=$MESSAGES-${P_NAME[PEER]}-${name//[!A-Za-z0-9._-]/_}
	RECORD="file ${P_NAME[PEER]} $1 $MESSAGES $(wc -c <"$TMP.file" | tr -d ' ') $2 ${name:0:120} $key"
}

assemble() { # KEY of the last part that came of a file -> stdout
	local i n part
	parse_frame <"$S/in/$1" || return
	n=${F_part#*/} part=$S/in/${1%-*}-$F_sha256-$n
	for ((i = 1; i <= n; i++)); do parse_frame <"$part-$i" && body; done
}

into_inbox() { # what the RECORD has brought; of a text what `body` gives, and `record` sees whether that was cut short
	local file
	# shellcheck disable=SC2086
	set -- $RECORD
	case ${1:-} in
		msg) body >"$S/inbox/$7" || disk_full ;;
		file)
			[ ! -e "$S/inbox/$7" ] || return 0
			assemble "$8" >"$TMP.new" && mv "$TMP.new" "$S/inbox/$7" || disk_full
			for file in "$S/in/${8%-*}-$F_sha256-"*; do echo 0 >"$file"; done # it need not be there twice
			;;
	esac
}

release() { # PEER: what waited and is now next in line
	local to mark
	for to in me all me; do
		while PEER=$1 mark="P_${to}[PEER]" && mark=$S/in/${P_STREAM[PEER]}-$to-$((${!mark} + 1)) && [ -e "$mark" ]; do
			RECORD=''
			parse_frame <"$mark" && is_next "$to" || break
			turn "$to"
			! commit "${RECORD:--}" || into_inbox
		done
	done
}

holes() { # ask for what lacks; after a minute in which nothing came, announce it and pass over
	local i to mark next file n
	HOLES=''
	for ((i = 0; i < PEERS; i++)); do
		release "$i"
		to=all
		[ "${P_all[i]}" -lt "${P_top_all[i]}" ] || to=me
		mark="P_${to}[i]" mark=${!mark} next="P_top_${to}[i]" next=$((${!next} + 1)) PEER=$i
		if ((next <= mark + 1)); then
			[ "${P_HOLE[i]}" = 0 ] || { P_HOLE[i]=0 && commit -; }
			continue
		fi
		HOLES=yes
		[ "${P_STATE[i]}" = gone ] || ((NOW - ASKED < 10)) || { ASKED=$((NOW)) && ask; }
		if [ "${P_HOLE[i]}" = 0 ]; then
			P_HOLE[i]=$((NOW)) && commit -
		elif ((NOW - P_HOLE[i] >= 60)); then
			for file in "$S/in/${P_STREAM[i]}-$to-"*; do # up to the next that is there
				n=${file#"$S/in/${P_STREAM[i]}-$to-"}
				! is_decimal "$n" || [ "$n" -le "$mark" ] || [ "$n" -ge "$next" ] || next=$n
			done
			raise "P_$to" $((next - 1))
			! commit missed "${P_NAME[i]}" $((next - 1 - mark)) || release "$i"
		fi
	done
}
