# ---- receiving: from the bridge's answer to records ----

poll() { # SECONDS: wait so long for news, and apply them. Status 1: CODE, WHY
	local began lines path
	read_clock
	refresh_state
	[ "$TICKS" -ge "$POLLED_AT" ] || forget_times
	began=$TICKS path="/poll?participant_id=$ID&since=$CURSOR&epoch=$EPOCH"
	if [ "$1" -le 8 ] || ! watch_polls "$path" "$1"; then
		request cursor GET "$path&wait=$(($1 < 8 ? $1 : 8))" '' '' 18 || { HAS_OLD_CURL='' && return 1; }
	fi
	read_clock
	is_decimal "${LAST[1]:-}" && [ "${LAST[1]}" -ge "$CURSOR" ] && [ "${LAST[2]:-}" = "$EPOCH" ] || return
	lines=("${LINES[@]}")
	refresh_state # what others confirm here, another process may have said meanwhile
	apply_answer "${LAST[1]}" "${LAST[2]}" "$began" "${lines[@]}"
	send_controls
}

watch_polls() { # PATH SECONDS: polls over one connection -> LAST, LINES. Status 1: poll without it
	local answers=0
	[ -z "$HAS_OLD_CURL" ] && start_watch "$1" "$2" || return
	while read_watch; do
		((answers += 1))
		began=$TICKS
		read_clock
		[ "$RESPONSE" = "cursor $CURSOR $EPOCH"$'\n' ] && [ -e "$SESSION/state/head.$COMMIT.$WRITER" ] || break
		((8 * answers < $2)) && is_watched && lock poll 15 || break
	done
	stop_watch
	[ "$answers" -gt 0 ] || HAS_OLD_CURL=yes # before 7.52, or it has told nothing
	take_answer cursor
}

forget_times() { # the machine has started again, and its clock with it
	local i
	POLLED_AT=0 EPOCH_AT=$TICKS
	for i in $ROWS; do
		P_B_SINCE[i]=0 P_D_SINCE[i]=0 P_SYNC_AT[i]=0 P_ACK_AT[i]=0 P_REPEATED[i]=- P_BYE_AT[i]=0
		((P_UNACKED_SINCE[i] <= 0)) || P_UNACKED_SINCE[i]=$TICKS
	done
}

ask_fetched() { # after a minute without a poll: has a copy of this session fetched more?
	local line words fetched=0
	((NOW - ASKED_AT >= MISSING_SECONDS || NOW < ASKED_AT)) && request_status || return 0
	for line in "${LINES[@]}"; do
		words=($line)
		[ "${words[0]}:${words[1]:-}" != "participant:$ID" ] || ! is_decimal "${words[4]:-}" || fetched=${words[4]}
	done
	refresh_state
	ASKED_AT=$NOW
	[ "$fetched" -le "$CURSOR" ] || IS_COPY=yes
}

apply_answer() { # CURSOR EPOCH BEGAN EVENTS…: in portions, smaller ones where another process was faster
	local last=$1 epoch=$2 began=$3 start=$TICKS events=("${@:4}") next=0 i is_all=''
	((${#RESPONSE} > 900000)) || is_all=yes # else the bridge has more to say
	MORE_EVENTS=yes PROVED=() PROVED_HASH=()
	while [ "$EPOCH" = "$epoch" ]; do
		CARDS=() IS_REFRESHED='' HAS_GAP='' APPLIED=0
		for ((i = next; i < ${#events[@]} && APPLIED < PORTION && ${#CARDS[@]} < 50 && (i == next || TICKS - start < 3); i++)); do
			apply_event "$last" "${events[i]}"
			read_clock
		done
		read_cards
		[ -z "$HAS_GAP" ] || { refresh_participants && owe_all; }
		if [ "$i" -ge ${#events[@]} ]; then
			CURSOR=$last
			[ -z "$is_all" ] || { POLLED_AT=$began ASKED_AT=$NOW && check_missing; }
			check_unacked
		fi
		[ -z "$AUTO_PRINT" ] || [ "$RECORDS" -eq "$SHOWN" ] || claim_printer || :
		if ! commit_state; then
			PORTION=$(((PORTION + 1) / 2))
			continue
		fi
		PORTION=$((PORTION < 32 ? 2 * PORTION : 64)) PROVED=() PROVED_HASH=()
		next=$i
		[ "$i" -lt ${#events[@]} ] || MORE_EVENTS=''
		[[ -n $MORE_EVENTS && $((TICKS - start)) -lt 3 ]] || break
	done
}

apply_event() { # CURSOR LINE. A malformed one is reported, and the others count
	local index words
	# shellcheck disable=SC2086
	set -- "$1" $2
	index=${3:-}
	case $2 in
		message) words=9 ;;
		join) words=8 ;;
		leave) words=6 ;;
		away | back) words=5 ;;
		gap) words=4 index=${4:-} ;;
		*) return 0 ;; # the last line, or one of a later version
	esac
	if [ $# -lt "$words" ] || ! is_decimal "$index" || [ "$index" -gt "$1" ]; then
		report malformed-answer bridge
		return
	fi
	[ "$index" -gt "$CURSOR" ] || return 0
	case $2 in
		message)
			((APPLIED += 1))
			on_message "$index" "$5" "$6" "$7" "$8" "$9"
			;;
		join)
			! is_hex "$5" 32 || [ "$5" = "$ID" ] || CARDS+=("$5 $index $6 $7 $8")
			;;
		leave)
			case $6 in
				left | expired) ;;
				*) report malformed-answer bridge && return ;;
			esac
			drop_card "$5"
			! find_peer ID "$5" || on_presence leave "$index" "$6"
			;;
		away | back) ! find_peer ID "$5" || on_presence "$2" "$index" ;;
		gap)
			add_presence gap -
			HAS_GAP=yes
			;;
	esac
	CURSOR=$index
}

# A card is read when its sender speaks, or at the end of an answer. Who came and went in between is nobody.
drop_card() { # ID
	local i
	for i in "${!CARDS[@]}"; do [[ ${CARDS[i]} != "$1 "* ]] || unset "CARDS[i]"; done
}

read_cards() { # [ID]: those that wait, or its own
	local i card
	for i in "${!CARDS[@]}"; do
		card=(${CARDS[i]})
		[ "${1:-${card[0]}}" = "${card[0]}" ] || continue
		unset "CARDS[i]"
		! read_card "${card[0]}" "${card[2]}" "${card[3]}" "${card[4]}" || on_presence join "${card[1]}"
	done
}

refresh_participants() { # once for each answer
	[ -z "$IS_REFRESHED" ] || return
	IS_REFRESHED=yes
	request_status || return
	read_participants
}

on_message() { # INDEX FROM TO NONCE CIPHERTEXT TAG
	local direct='' seq
	if ! is_hex "$2" 32 || [ "$2" = "$ID" ] || [[ $3 != '*' && $3 != "$ID" ]]; then
		report not-for-us bridge
		return
	fi
	[ "$3" = '*' ] || direct=yes
	read_cards "$2"
	find_peer ID "$2" || { refresh_participants && find_peer ID "$2"; }
	set_aad "$2" "$3" message
	if [ "$PEER" -lt 0 ] || ! { prove_again "$1" || prove "$2" "$direct" "$4" "$5" "$6" "$1"; }; then
		if [[ $PEER -ge 0 && -z $direct ]]; then
			report "$REASON" "${P_LABEL[PEER]}"
		elif [ "$1" -ge "$JOIN_INDEX" ]; then
			((UNREADABLE += 1))
			[ "$UNREADABLE" -gt 1 ] || add_record unreadable -
		fi
		return
	fi
	case ${P_STATE[PEER]} in new | lost) P_STATE[PEER]=here ;; esac
	[[ -z $direct || ${P_PAIRED[PEER]} != 0 ]] || on_paired
	seq=$MSG_seq
	[[ $seq =~ ^[1-9][0-9]{0,14}$ ]] || seq=''
	if ! check_message "$direct"; then
		[ -z "$seq" ] || on_content "$1" "$direct" "$seq" malformed
		return
	fi
	if [ -n "$seq" ]; then
		on_headers "$direct"
		on_content "$1" "$direct" "$seq" ''
	elif is_control; then
		on_headers "$direct"
		on_control
	fi
}

prove() { # ID DIRECT NONCE CIPHERTEXT TAG INDEX -> PEER, the session that it is of; MSG_…, BODY. Status 1: REASON
	local i tried=0 newest=$PEER text
	if [ -z "$2" ]; then
		unseal room "$AAD" "$3" "$4" "$5" && parse_frame && REASON=missing-signature && [ -n "$MSG_signature" ] || return
		text=("${BYTES[@]}")
		REASON=bad-signature
		[ ${#MSG_signature} -le 96 ] && is_base64 "$MSG_signature" || return
	fi
	for ((i = PEERS - 1; i >= 0 && tried < 8; i--)); do
		[ "${P_ID[i]}" = "$1" ] || continue
		((tried += 1))
		if [ -n "$2" ]; then
			direct_key_of "$i" && unseal "$KEY_NAME" "$AAD" "$3" "$4" "$5" || continue
			text=("${BYTES[@]}")
			parse_frame || MSG_seq='' MSG_kind=''
			write_signed "$UNSIGNED"
		else
			write_signed "$AAD"$'\n'"${P_SID[i]}"$'\n\n'"$UNSIGNED"
			read_public_keys "$i" && write_pem "${P_SIGN[i]}" && ecdsa_verify "$MSG_signature" || continue
		fi
		PEER=$i
		[ ${#text[@]} -gt 1 ] || PROVED[$6]=${P_SID[i]}${text[0]}
		return 0
	done
	PEER=$newest
	return 1
}

prove_again() { # INDEX: what was proved before another process was faster -> as prove
	local proved=${PROVED[$1]:-}
	[ -n "$proved" ] && find_peer SID "${proved:0:32}" || return
	BYTES=("${proved:32}") BYTES_LENGTH=$((${#proved} - 32))
	parse_frame || MSG_seq='' MSG_kind=''
}

on_paired() {
	local i
	P_PAIRED[PEER]=$((RECORDS + 1))
	add_record paired "${P_LABEL[PEER]}"
	for i in $ROWS; do
		[[ $i -ne $PEER && ${P_ID[i]} = "${P_ID[PEER]}" && ${P_ACK_D[i]} -lt ${P_SEQ[i]} ]] || continue
		add_record undelivered "${P_LABEL[i]}" "$((P_SEQ[i] - P_ACK_D[i]))"
		P_ACK_D[i]=${P_SEQ[i]} P_HAS_D[i]=${P_SEQ[i]}
	done
}

on_headers() { # DIRECT: what a proved message says of its sender's numbers and of ours
	local words b=0 d=0
	[ -z "$MSG_reach" ] || ((MSG_time < ${P_REACH[PEER]#*:})) || P_REACH[PEER]=$MSG_reach:$MSG_time
	if [ -n "$1" ]; then
		words=($MSG_sent)
		if [ "${P_BASE[PEER]}" = - ]; then
			P_BASE[PEER]=${words[0]}
			raise "P_B_MARK[PEER]" $((P_BASE[PEER] - 1))
			raise "P_SHOWN_MARK[PEER]" $((P_BASE[PEER] - 1))
		fi
		raise "P_FIRST[PEER]" "${words[0]}"
		raise "P_B_TOP[PEER]" "${words[1]}"
		raise "P_D_TOP[PEER]" "${words[2]}"
		words=($MSG_received)
		b=${words[0]} d=${words[1]}
	fi
	find_seen "$SID"
	raise b "$SEEN"
	if [ "$b" -gt "$BROADCASTS" ] || [ "$d" -gt "${P_SEQ[PEER]}" ]; then
		IS_COPY=yes # it has had what we never said: another copy of this session speaks, or spoke
		return
	fi
	raise "P_ACK_B[PEER]" "$b"
	raise "P_ACK_D[PEER]" "$d"
	raise "P_HAS_B[PEER]" "$b"
	raise "P_HAS_D[PEER]" "$d"
	if [ -n "$MSG_stored" ] && [ "${MSG_stored% *}" -le "$BROADCASTS" ] && [ "${MSG_stored#* }" -le "${P_SEQ[PEER]}" ]; then
		raise "P_HAS_B[PEER]" "${MSG_stored% *}"
		raise "P_HAS_D[PEER]" "${MSG_stored#* }"
	fi
	((P_ACK_B[PEER] < BROADCASTS || P_ACK_D[PEER] < P_SEQ[PEER])) || P_UNACKED_SINCE[PEER]=0
}

find_seen() { # SID -> SEEN, SEEN_LOST: how many of its broadcasts the writer was shown, and missed
	local entry=,$MSG_seen
	SEEN=0 SEEN_LOST=0
	[[ $entry = *",${1:0:16} "* ]] || return 0
	entry=${entry#*",${1:0:16} "}
	SEEN=${entry%% *} entry=${entry#* }
	SEEN_LOST=${entry%%[ ,]*}
}

on_control() {
	case $MSG_kind in
		sync)
			owe "$PEER" ack
			repeat_from "$PEER"
			;;
		ack) repeat_from "$PEER" ;;
		want)
			! check_want || WANTS+=" ${P_SID[PEER]}:${BODY[0]//$'\n'/,}"
			;;
		bye)
			P_BYE[PEER]=${MSG_sent#* } P_BYE_AT[PEER]=$TICKS
			P_BYE[PEER]=${P_BYE[PEER]/ /:}
			check_bye "$PEER"
			;;
	esac
}

check_bye() { # PEER: LEFT is told when all that it said was shown or skipped
	[[ ${P_BYE[$1]} != - && ${P_STATE[$1]} != left ]] || return
	((P_B[$1] >= ${P_BYE[$1]%:*} && P_D[$1] >= ${P_BYE[$1]#*:})) || return
	P_STATE[$1]=left
	add_record left "${P_LABEL[$1]}"
}

# ---- content: in its sender's order, each number once ----

place_of() { # SCOPE (B or D) SEQ -> PLACE, the file of what came before its turn
	printf -v PLACE '%s/received/%s.%s.%015d' "$SESSION" "${P_SID[PEER]}" "$1" "$2"
}

on_content() { # INDEX DIRECT SEQ MALFORMED (or nothing)
	local scope=B upto top since
	HASH=${PROVED_HASH[$1]:-}
	if [ -z "$HASH" ]; then
		hash_files "$TMP.signed"
		PROVED_HASH[$1]=$HASH
	fi
	[ -z "$2" ] || scope=D
	upto="P_${scope}[PEER]"
	upto=${!upto}
	top="P_${scope}_TOP[PEER]"
	top=${!top} since="P_${scope}_SINCE[PEER]"
	raise "P_${scope}_TOP[PEER]" "$3"
	if [ "$3" -le "$upto" ]; then
		if take_gap "$scope" "$3"; then
			deliver "$1" "$scope" "$3" "$4" late
		elif find_digest "$scope" "$3" && [ "$DIGEST" != "$HASH" ]; then
			report sequence-reused "${P_LABEL[PEER]}"
		fi
		return
	fi
	# Something new of it was proved. If it was missing, the others have a minute again.
	[ "${P_STATE[PEER]}" != gone ] || P_STATE[PEER]=here
	[[ $3 -gt $top || ${!since} -eq 0 ]] || assign "$since" "$TICKS"
	place_of "$scope" "$3"
	if [ -e "$PLACE" ]; then
		read_file "$PLACE"
		[ "${BYTES[0]%%" "*}" = "$HASH" ] || report sequence-reused "${P_LABEL[PEER]}"
	elif [ "$3" -eq $((upto + 1)) ] && is_turn "$scope" "$4"; then
		deliver "$1" "$scope" "$3" "$4" ''
		deliver_stored
	elif [ "$3" -le $((upto + 2000)) ]; then
		new_temp
		write_body "$NEW_TEMP" "$HASH $1 ${4:--}"$'\n'"$UNSIGNED"
		rename "$NEW_TEMP" "$PLACE" || die_disk
	fi
}

is_turn() { # SCOPE MALFORMED: a direct message waits for its sender's broadcasts before it
	local words
	[[ $1 = D && -z $2 ]] || return 0
	words=($MSG_sent)
	[ "${words[1]}" -le "${P_B[PEER]}" ]
}

deliver() { # INDEX SCOPE SEQ MALFORMED LATE; MSG_… and BODY: it becomes a record
	local scope=all mark=$2 label=${P_LABEL[PEER]} place=${P_SID[PEER]:0:16}
	[ "$2" = B ] || scope=me
	[ -n "$5" ] || raise "P_$2[PEER]" "$3"
	[ "$2" != B ] || raise "P_B_MARK[PEER]" "$3"
	add_digest "$2" "$3"
	[ -n "$4" ] || set_marks "$1" "$2" "$3" "$5" # nothing of a malformed message was checked
	place+=" $2 $3 ${P_B_LOST[PEER]}"
	if [ -n "$4" ]; then
		add_record malformed "$label" "$place"
	elif [ "$MSG_kind" = text ]; then
		P_LAST_SHOWN[PEER]=$((RECORDS + 1))
		((MESSAGES += 1))
		write_body_later "inbox/$MESSAGES-$label.txt" ''
		add_record msg "$label" "$place" "$scope" "$MESSAGES" "$BODY_LENGTH" "$MSG_time" "$MARKS" "$MESSAGES-$label.txt"
	elif [ "$MSG_kind" = file ]; then
		P_LAST_SHOWN[PEER]=$((RECORDS + 1))
		((MESSAGES += 1))
		on_file "$label" "$place" "$scope"
	else
		add_record skip "$label" "$place"
	fi
}

deliver_stored() { # of PEER: what waited and is now next
	local scope seq index malformed line
	for scope in B D B D; do
		while :; do
			seq="P_${scope}[PEER]"
			seq=$((${!seq} + 1))
			place_of "$scope" "$seq"
			[ -e "$PLACE" ] && read_stored || break
			line=($STORED)
			HASH=${line[0]} index=${line[1]} malformed=${line[2]#-}
			is_turn "$scope" "$malformed" || break
			remove_later "$PLACE"
			deliver "$index" "$scope" "$seq" "$malformed" ''
		done
	done
	check_bye "$PEER"
}

read_stored() { # PLACE -> STORED, its first line; MSG_…, BODY
	read_file "$PLACE" || return
	STORED=${BYTES[0]%%$'\n'*}
	BYTES[0]=${BYTES[0]#*$'\n'}
	((BYTES_LENGTH -= ${#STORED} + 1))
	parse_frame || [ "$STORED" != "${STORED% -}" ]
}

# Digests lie in files of 64 numbers each: digests/SID.SCOPE.I. The last 65 of these are kept, so 4,096 numbers at least.
add_digest() { # SCOPE SEQ, and HASH
	local file=digests/${P_SID[PEER]}.$1 i=$(($2 / 64)) each
	NEW_DIGESTS+=("digest $file.$i $2 $HASH")
	[ ! -e "$SESSION/$file.$i" ] || return 0
	list_files "$SESSION/$file."
	for each in "${FILES[@]}"; do [ "${each##*.}" -ge $((i - 64)) ] || remove_later "$each"; done
}

find_digest() { # SCOPE SEQ -> DIGEST. Status 1: too long ago
	local file=digests/${P_SID[PEER]}.$1.$(($2 / 64)) line
	read_file "$SESSION/$file" || :
	split_lines "${BYTES[0]}"
	for line in "${LINES[@]}" "${NEW_DIGESTS[@]#"digest $file "}"; do
		[ "${line%% *}" != "$2" ] || { DIGEST=${line##* } && return; }
	done
	return 1
}

# ---- missing messages ----

set_gaps() { if [ "$1" = B ]; then P_B_GAPS[PEER]=$2; else P_D_GAPS[PEER]=$2; fi; } # SCOPE LIST

take_gap() { # SCOPE SEQ: was it skipped? Then no longer
	local list="P_$1_GAPS[PEER]" range from to found='' rest=''
	for range in ${!list//,/ }; do
		from=${range%-*} to=${range#*-}
		if [ "$range" = - ]; then
			continue
		elif [ "$2" -lt "$from" ] || [ "$2" -gt "$to" ]; then
			rest+=,$range
		else
			found=yes
			[ "$from" -eq "$2" ] || rest+=,$from-$(($2 - 1))
			[ "$to" -eq "$2" ] || rest+=,$(($2 + 1))-$to
		fi
	done
	[ -n "$found" ] || return
	rest=${rest#,}
	set_gaps "$1" "${rest:--}"
	[[ $1 = B && (${P_BASE[PEER]} = - || $2 -lt ${P_BASE[PEER]}) ]] || assign "P_${1}_LOST[PEER]" "P_${1}_LOST[PEER] - 1"
}

give_up() { # PEER SCOPE UPTO: what did not come up to there; what came is delivered on the way
	local list gaps upto seq from count=0 early=0 base file files name="P_$2[$1]"
	PEER=$1
	list="P_$2_GAPS[PEER]"
	list_files "$SESSION/received/${P_SID[PEER]}.$2."
	files=("${FILES[@]}")
	base=${P_BASE[PEER]}
	[ "$base" != - ] || base=0
	if [ "$base" = 0 ] && [ "$2" = B ] && [ "${P_B_MARK[PEER]}" = 0 ] && [ ${#files[@]} -gt 0 ]; then
		base=${files[0]##*.} # not known yet: what comes before the first that was shown was said before we came
		base=$((10#$base))
	fi
	for file in "${files[@]}" end; do
		upto=${!name}
		if [ "$file" = end ]; then
			seq=$(($3 + 1))
		else
			seq=${file##*.}
			seq=$((10#$seq))
		fi
		[ "$seq" -gt "$upto" ] || continue
		[ "$seq" -le $(($3 + 1)) ] || seq=$(($3 + 1))
		from=$((upto + 1))
		if [ "$from" -lt "$seq" ]; then
			((count += seq - from))
			[ "$2" = D ] || [ "$from" -ge "$base" ] || ((early += (seq < base ? seq : base) - from))
			gaps=${!list#-},$from-$((seq - 1))
			[ ${#gaps} -le 500 ] || gaps=${gaps#*,}
			set_gaps "$2" "${gaps#,}"
			raise "$name" $((seq - 1))
		fi
		deliver_stored
		[ "$file" = end ] || [ "${!name}" -ge "$seq" ] || break # it waits for a broadcast
	done
	assign "P_${2}_LOST[PEER]" "P_${2}_LOST[PEER] + count - early"
	upto="${P_SID[PEER]:0:16} $2 ${!name} ${P_B_LOST[PEER]}"
	[ "$early" -eq 0 ] || add_record earlier "${P_LABEL[PEER]}" "$upto" "$early"
	[ "$count" -eq "$early" ] || add_record missed "${P_LABEL[PEER]}" "$upto" $((count - early))
	assign "P_${2}_SINCE[PEER]" 0
}

check_missing() { # ask for what is missing, and give it up when its time is over
	local i scope upto top since asked
	HAS_MISSING=''
	for i in $ROWS; do
		PEER=$i
		if [ "${P_STATE[i]}" = lost ] && ((TICKS - EPOCH_AT > 2 * MISSING_SECONDS)); then # not seen since the bridge restarted
			P_STATE[i]=gone
			add_presence gone "${P_LABEL[i]}" -
		fi
		for scope in B D; do
			upto="P_${scope}[i]" top="P_${scope}_TOP[i]" since="P_${scope}_SINCE[i]" asked="P_${scope}_UPTO[i]"
			if [ "${!upto}" -ge "${!top}" ]; then
				assign "$since" 0
				continue
			fi
			if [ "$scope" = B ] && [ "${P_FIRST[i]}" -gt $((P_B[i] + 1)) ]; then
				give_up "$i" B $((P_FIRST[i] - 1 < P_B_TOP[i] ? P_FIRST[i] - 1 : P_B_TOP[i]))
				[ "${!upto}" -lt "${!top}" ] || continue
			fi
			place_of "$scope" $((${!upto} + 1))
			[ ! -e "$PLACE" ] || continue # it waits for a broadcast
			if ! is_present "$i" || [[ ${P_BYE[i]} != - && ${P_BYE_AT[i]} -lt $POLLED_AT ]]; then
				give_up "$i" "$scope" "${!top}"
				continue
			fi
			HAS_MISSING=yes
			if [ "${!since}" = 0 ] || [ "${!since}" -gt "$TICKS" ]; then
				assign "$since" "$TICKS"
				assign "$asked" "$top"
			elif ((TICKS - ${!since} >= MISSING_SECONDS && P_SYNC_AT[i] > 0 && POLLED_AT >= P_SYNC_AT[i])); then
				give_up "$i" "$scope" "${!asked}"
			fi
			owe "$i" sync
		done
		PEER=$i
		check_bye "$i"
	done
}

check_unacked() { # one that has not confirmed our words for a minute is asked once
	local i asked=0
	for ((i = 0; i < PEERS && asked < 10; i++)); do
		[[ ${P_UNACKED_SINCE[i]} -gt 0 ]] && is_present "$i" || continue
		((TICKS < P_UNACKED_SINCE[i] || TICKS - P_UNACKED_SINCE[i] >= MISSING_SECONDS)) || continue
		P_UNACKED_SINCE[i]=-1
		owe "$i" sync
		((asked += 1))
	done
}

# What the writer of a message had not read of what is above it (docs/protocol.md, Order) -> MARKS, words without spaces
set_marks() { # INDEX SCOPE SEQ LATE
	local i entry words b=$((P_FROM[PEER] - 1)) d=0
	MARKS=''
	words=($MSG_received)
	if [ "$2" = D ]; then
		raise b "${words[0]}"
		d=${words[1]}
	fi
	find_seen "$SID"
	raise b "$SEEN"
	[ -z "$4" ] || MARKS+=,late
	if [[ $2 = B && (${P_BASE[PEER]} != - && $3 -lt ${P_BASE[PEER]} || ${P_BASE[PEER]} = - && $1 -lt $JOIN_INDEX && $EPOCH = "$FIRST_EPOCH") ]]; then
		MARKS+=",past"
	elif [ "${P_PAIRED[PEER]}" = 0 ]; then
		MARKS+=",unpaired"
	else
		for i in $ROWS; do
			[ "$i" -ne "$PEER" ] || continue
			find_seen "${P_SID[i]}"
			[[ $SEEN -ge ${P_B_MARK[i]} || ${P_LAST_SHOWN[i]} -le ${P_MET[PEER]} ]] ||
				MARKS+=",unread:${P_LABEL[i]}:$((P_B_MARK[i] - SEEN))"
			[ "$SEEN" -le "${P_B_MARK[i]}" ] || MARKS+=",ahead:${P_LABEL[i]}"
			[ "$SEEN_LOST" -eq 0 ] || MARKS+=",lost:${P_LABEL[i]}:$SEEN_LOST"
		done
		split_lines "${MSG_seen//,/$'\n'}"
		for entry in "${LINES[@]}"; do
			[[ " $SID ${P_SID[*]:0:PEERS}" = *" ${entry:0:16}"* || $entry = *left ]] || { MARKS+=",stranger" && break; }
		done
		MARKS+=",own:$b:$BROADCASTS"
		[ "$2" = B ] || MARKS+=",direct:$d:${P_SEQ[PEER]}"
	fi
	MARKS=${MARKS#,}
	MARKS=${MARKS:--}
}
