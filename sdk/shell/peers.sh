# ---- peers: the sessions of others ----

find_peer() { # SID|ID HEX -> PEER, the newest row whose id begins so
	local cell="P_${1}[PEER]"
	for ((PEER = PEERS - 1; PEER >= 0; PEER--)); do [[ ${!cell} != "$2"* ]] || return 0; done
	return 1
}

is_present() { [[ ${P_STATE[$1]} != gone && ${P_STATE[$1]} != left ]]; } # PEER

list_names() { # -> NAMES of those in the channel
	local i
	NAMES=''
	for i in $ROWS; do ! is_present "$i" || NAMES+=" ${P_LABEL[i]}"; done
}

is_anyone_paired() {
	local i
	for i in $ROWS; do [[ ${P_PAIRED[i]} = 0 ]] || ! is_present "$i" || return 0; done
	return 1
}

find_recipient() { # NAME or NAME~N -> PEER. Of several sessions under a name the one that was PAIRED last, once NEW was shown
	local i found=-1 there='' left=''
	for i in $ROWS; do
		case $1 in
			"${P_NAME[i]}" | "${P_LABEL[i]}") ;;
			"${P_NAME[i]}~1") [ "${P_LABEL[i]}" = "${P_NAME[i]}" ] || continue ;;
			*) continue ;;
		esac
		left=yes
		is_present "$i" || continue
		there=yes
		[[ ${P_PAIRED[i]} != 0 && ($found -lt 0 || ${P_PAIRED[i]} -ge ${P_PAIRED[found]}) ]] && found=$i
	done
	PEER=$found
	if [ "$found" -ge 0 ]; then
		[[ $1 = "${P_LABEL[found]}" || $SHOWN -gt ${P_MET[found]} ]] ||
			die "another session is called $1 now, and you have not been told" "$CALL wait 0 tells it; then $1 is the new one, and $1~1 the first"
		return 0
	fi
	list_names
	[ -z "$there" ] || die "$1 is not PAIRED yet" "call '$CALL wait' first: that takes a wait of the other side, too"
	[ -z "$left" ] || die "$1 has left" "in the channel now:${NAMES:- nobody}. Tell your user, who can invite it again: $CALL invite"
	die "nobody here is called that" "in the channel now:${NAMES:- nobody}"
}

read_card() { # ID NONCE CIPHERTEXT TAG -> PEER, a new row for a new session. Status 1: no card of its
	local label=bridge
	if find_peer ID "$1"; then
		# Nonce and tag alone don't tell two cards apart: who has the room key can make another one with the same.
		! read_file "$SESSION/keys/card-${P_SID[PEER]}" || [[ ${BYTES[0]} != "$2$4$3" ]] || return 0
		label=${P_LABEL[PEER]}
	fi
	set_aad "$1" '*' card
	if ! unseal room "$AAD" "$2" "$3" "$4" || ! parse_frame || ! check_card "$1"; then
		report "card-$REASON" "$label"
		return 1
	fi
	short_id session "$KEY" "$MSG_kind $MSG_name $MSG_pub $MSG_sign"
	if ! find_peer SID "$HASH"; then
		! read_file "$SESSION/keys/dropped" || [[ ${BYTES[0]} != *" $HASH "* ]] || return # what it said is not shown again
		add_peer "$1" "$HASH" || return
	fi
	write_file "$SESSION/keys/card-${P_SID[PEER]}" "$2$4$3"
}

add_peer() { # ID SID, and the card in MSG_… -> PEER. Status 1: its key is wrong, or there are too many
	local label=$MSG_name number=1 i last same=0
	for i in $ROWS; do [ "${P_ID[i]}" != "$1" ] || ((same += 1)); done
	if ((same >= 20)); then # so that one participant takes no place of others
		report too-many-sessions "$MSG_name"
		return 1
	fi
	((NOW - NEW_SINCE < 3600 && NOW >= NEW_SINCE)) || NEW_SINCE=$NOW NEW_COUNT=0
	((NEW_COUNT += 1))
	if ((NEW_COUNT > 100)); then
		report too-many-sessions bridge
		return 1
	fi
	drop_peers
	PEER=$PEERS
	set_row "$PEER" "$2" "$1" "$MSG_name" "$MSG_name" "$MSG_kind" new 0 "$RECORDS" -:0 - 0 0 0 0 0 - 0 0 0 0 0 - \
		0 0 0 0 0 0 0 0 0 0 0 0 $((BROADCASTS + 1)) - 0 0 0 - - 0
	write_same "$SESSION/keys/$2" "$MSG_pub $MSG_sign"
	if ! direct_key_of "$PEER"; then
		remove_later "$SESSION/keys/$2"
		report card-bad-key bridge
		return 1
	fi
	! read_count "$SESSION/keys/name-$MSG_name" || number=$((COUNT + 1))
	for i in $ROWS; do # and those that are new, too
		[ "${P_NAME[i]}" = "$MSG_name" ] || continue
		last=${P_LABEL[i]#"$MSG_name"}
		last=${last#\~}
		((${last:-1} < number)) || number=$((${last:-1} + 1))
	done
	[ "$number" = 1 ] || label=$MSG_name~$number
	write_later "keys/name-$MSG_name" "$number"
	P_LABEL[PEER]=$label
	set_peers $((PEERS + 1))
	[ "$number" = 1 ] || add_record new "$label"
}

is_replaced() { # PEER: a newer session of this participant was PAIRED, so that the bridge's word alone does not bring it back
	local i
	for i in $ROWS; do [[ $i -le $1 || ${P_ID[i]} != "${P_ID[$1]}" || ${P_PAIRED[i]} = 0 ]] || return 0; done
	return 1
}

set_listed() { # PEER: the bridge lists it, and no other session of its name
	local i
	[ "${P_STATE[$1]}" != left ] && ! is_replaced "$1" || return 0 # a goodbye is for good, whatever the bridge says
	for i in $ROWS; do [ "${P_ID[i]}" != "${P_ID[$1]}" ] || ! is_present "$i" || P_STATE[i]=gone; done
	P_STATE[$1]=here
}

drop_peers() { # of a hundred rows the oldest of those that are gone goes for good, those never PAIRED first
	local i found=-1
	((PEERS >= 100)) || return 0
	for ((i = PEERS - 1; i >= 0; i--)); do
		is_present "$i" || [[ $found -ge 0 && ${P_PAIRED[i]} != 0 && ${P_PAIRED[found]} = 0 ]] || found=$i
	done
	i=$found
	[ "$i" -ge 0 ] || return 0
	append_file "$SESSION/keys/dropped" " ${P_SID[i]} "
	forget_content "${P_SID[i]}"
	remove_later "$SESSION/keys/${P_SID[i]}" "$SESSION/keys/card-${P_SID[i]}" "$SESSION/keys/direct-$SID-${P_SID[i]}"
	set_peers $((PEERS - 1))
	for (( ; i < PEERS; i++)); do
		get_row $((i + 1))
		# shellcheck disable=SC2086
		set_row "$i" $ROW
	done
}

forget_content() { # BEGINNING of names in received/ and digests/
	list_files "$SESSION/received/$1"
	remove_later "${FILES[@]}"
	list_files "$SESSION/digests/$1"
	remove_later "${FILES[@]}"
}

read_public_keys() { # PEER -> P_PUB, P_SIGN. Status 1: another process has dropped it
	if ! read_file "$SESSION/keys/${P_SID[$1]}"; then
		[ -e "$SESSION/keys" ] || die_left
		return 1
	fi
	P_PUB[$1]=${BYTES[0]% *} P_SIGN[$1]=${BYTES[0]#* }
}

# What the bridge says of who is there. At most 60 lines in ten minutes: a bridge may invent as many as it likes.
on_presence() { # join|away|back|leave INDEX REASON, of PEER
	local state=${P_STATE[PEER]} label=${P_LABEL[PEER]}
	if [[ $2 -lt $JOIN_INDEX && $state != lost ]]; then # it happened before we came
		[ "$state" != new ] || P_STATE[PEER]=gone
		return
	fi
	case $1:$state in
		join:gone) ! is_replaced "$PEER" || return 0 ;;
	esac
	case $1:$state in
		join:new | join:gone)
			set_listed "$PEER"
			add_presence joined "$label" "${P_KIND[PEER]}"
			;;
		join:lost | join:away)
			P_STATE[PEER]=here
			owe "$PEER" sync
			add_presence back "$label"
			;;
		away:here | away:lost)
			P_STATE[PEER]=away
			add_presence away "$label"
			;;
		back:away | back:lost)
			P_STATE[PEER]=here
			add_presence back "$label"
			;;
		leave:here | leave:away | leave:lost)
			P_STATE[PEER]=gone
			[ "${P_BYE[PEER]}" != - ] || add_presence gone "$label" "${3:-}"
			;;
	esac
}

start_window() { ((NOW - PRESENCE_SINCE < 600 && NOW >= PRESENCE_SINCE)) || PRESENCE_SINCE=$NOW PRESENCE_COUNT=0 REPORT_COUNT=0; }

add_presence() { # as add_record
	start_window
	((PRESENCE_COUNT += 1))
	case $PRESENCE_COUNT in
		[1-9] | [1-5]?) add_record "$@" ;;
		60) add_record crowd - ;;
	esac
}

owe_all() { # a sync to everybody
	local i
	for i in $ROWS; do ! is_present "$i" || owe "$i" sync; done
}

owe() { # PEER sync|ack: a control message that goes out after the next commit
	case ${P_DUE[$1]} in
		-) P_DUE[$1]=$2 ;;
		*"$2"*) ;;
		*) P_DUE[$1]=sync+ack ;;
	esac
}
