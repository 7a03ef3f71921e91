# ---- send: number, seal, keep, hand over ----

# outbox/N: a line `WHOM SEQ TIME COMMIT NAME PART COUNTS`, the request's body, the words for agentalk_log. WHOM: * or the
# recipient's key; COMMIT: the last record then; NAME: the recipient, - for none to tell; PART: of a file, or a signal's
# kind; COUNTS: each SEQ so far, as WHOM:SEQ. Whoever is first links it there complete, so no number is used twice, and it
# goes out as these same bytes until the bridge has them, who knows them by their nonce.

whom() { if [ "$1" = '*' ]; then WHOM='*'; else WHOM=${P_PUB[$1]:36:20}; fi; } # * or PEER -> WHOM

sent() { # -> SENT, the last N that the bridge has; MOST, the last one that any was ever given
	read -r SENT <"$S/sent" && is_decimal "$SENT" || SENT=0
	read -r MOST <"$S/most" && is_decimal "$MOST" || MOST=0
}

set_sent() { printf '%s\n' "$1" >"$S/sent"; }

last_of() { # * or PEER -> OUT, the last N; ALL, our last broadcast; SEQ, our last to that one; WHOM, SENT, COUNTS
	sent
	OUT=$SENT COUNTS=''
	while [ -e "$S/outbox/$((OUT + 1))" ]; do ((OUT += 1)); done
	((OUT == 0)) || read -r _ _ _ _ _ _ COUNTS <"$S/outbox/$OUT"
	count '*' && ALL=$SEQ
	whom "$1" && count "$WHOM"
}

count() { # WHOM -> SEQ
	SEQ=0
	case " $COUNTS" in *" $1:"*) SEQ=${COUNTS##*"$1:"} SEQ=${SEQ%% *} ;; esac
}

make() { # * or PEER, KIND, HEADERS, NAME or -; SEQ and ALL; the body is what `body` gives -> REQUEST
	local to='*' key=$S/direct/room headers='' i
	printf "%$((8 * BODY_BYTES + 131072))s" '' >"$TMP.room" && : >"$TMP.room" || disk_full # or it is cut short in the middle
	if [ "$1" = '*' ]; then
		for ((i = PEERS - 1; i >= 0 && ${#headers} < 286; i--)); do # at most 16
			[ "${P_STREAM[i]}" = - ] || headers="$headers,${P_STREAM[i]} ${P_all[i]}"
		done
		headers=${headers/#,/seen: }${headers:+$'\n'}
	else
		if ! direct_key "$1"; then
			[ "${4:--}" = - ] || fail "the key of $4 is wrong, or this session has left the channel"
			return 1
		fi
		to=${P_ID[$1]} key=$DIRECT
		headers="after: $ALL"$'\n'"seen: ${P_STREAM[$1]/#-/0000000000000000} ${P_all[$1]} ${P_me[$1]}"$'\n'
	fi
	headers="kind: $2"$'\n'"stream: $STREAM"$'\n'"seq: $SEQ"$'\n'"time: $((NOW))000"$'\n'$headers$3
	aad "$ID" "$to" message
	[ "$to" != '*' ] || { printf '%s\n\n%s\n' "$AAD" "$headers" && body; } >"$TMP.signed" || disk_full
	# One openssl starts while the other one signs.
	seal "$key" "$AAD" < <(
		printf "$THREE%s" "$headers"
		if [ "$to" = '*' ]; then
			sign "$S/sign.pem" "$TMP.signed" || exit
			printf '%s\n' "$SIGNATURE" >"$TMP.signature"
			printf 'signature: %s\n' "$SIGNATURE"
		fi
		echo && body
	)
	[ "$to" != '*' ] || { read -r i <"$TMP.signature" && headers="${headers}signature: $i"$'\n'; }
	[ "$FRAME_BYTES" -eq $((${#headers} + 1 + BODY_BYTES)) ] || fail "openssl can't sign here, or was killed. Nothing was sent"
	printf -v REQUEST '{"to":"%s","participant_id":"%s","nonce":"%s","tag":"%s","ciphertext":"%s"}' "$to" "$ID" "$NONCE" "$TAG" "$CIPHERTEXT"
}

enqueue() { # * or PEER, KIND, HEADERS, NAME; the body is what `body` gives -> N
	while last_of "$1" && ((N = OUT + 1, SEQ += 1)); do
		[ "$1" != '*' ] || ALL=$SEQ
		make "$@" || return
		COUNTS=" $COUNTS "
		COUNTS="$WHOM:$SEQ"${COUNTS/" $WHOM:$((SEQ - 1)) "/ }
		{
			printf '%s\n' "$WHOM $SEQ $((NOW)) $COMMIT $4 ${PART:--} $COUNTS" "$REQUEST" &&
				case $4:$2 in -:*) ;; *:file) printf '(the file %s)' "$FILE" ;; *) body ;; esac
		} >"$TMP.out$N" || disk_full
		ln "$TMP.out$N" "$S/outbox/$N" && break
		[ -e "$S/outbox/$N" ] || disk_full
	done
	((N % 64)) || trim
}

trim() { # of an outbox beyond 64 MB the older half keeps only its words
	local n
	set -- "$(du -sk "$S/outbox")"
	for ((n = ${1%%[!0-9]*} > 65536 ? SENT / 2 : 0; n > 0; n--)); do
		sed '2s/.*//' "$S/outbox/$n" >"$TMP.line" && mv "$TMP.line" "$S/outbox/$n"
	done
}

signal() { # * or PEER, KIND, HEADERS: a message without a body
	local PART=$2
	BODY=('') BODY_BYTES=0
	enqueue "$@" -
}

post() { # N: the bridge has it -> PRESENT, its answer; or its recipient is absent and will ask: ABSENT. Status 1: CODE, MESSAGE
	local line=''
	PRESENT='' ABSENT=''
	{ read -r _ && read -r line; } <"$S/outbox/$1"
	printf '%s\n' "$line" >"$TMP.post" || disk_full
	CODE=trimmed MESSAGE="too old, the outbox keeps 64 MB"
	if [ -n "$line" ] && request sent POST "/send?epoch=$EPOCH" "$TMP.post"; then
		read -r -d '' -n 9999 PRESENT <"$TMP.answer"
		return 0
	fi
	case $CODE in
		no_recipient) ABSENT=yes ;;
		trimmed | bad_request | too_large | nonce_reused) # for good
			say "one of your messages can't be sent: $MESSAGE"
			void "$1"
			return 1
			;;
		*) return 1 ;;
	esac
}

void() { # N: an empty message takes its number, so that nobody waits for it
	local to='*' key number
	read -r key number _ <"$S/outbox/$1"
	for ((PEER = 0; PEER < PEERS; PEER++)); do whom "$PEER" && [ "$WHOM" != "$key" ] || to=$PEER; done
	last_of "$to"
	SEQ=$number BODY=('') BODY_BYTES=0
	make "$to" void '' && { sed 1q "$S/outbox/$1" && printf '%s\n' "$REQUEST" && sed 1,2d "$S/outbox/$1"; } >"$TMP.line" &&
		mv "$TMP.line" "$S/outbox/$1"
}

flush() { # N SECONDS: the outbox up to N, in order. Status 1: not in that time
	local end=$((SECONDS + $2)) tries=0 pause n
	while sent && n=$((SENT + 1)) && [ "$n" -le "$1" ]; do
		((SECONDS <= end)) || return
		((n <= MOST)) || printf '%s\n' "$n" >"$S/most"
		if post "$n"; then
			sent
			((n != SENT + 1)) || set_sent "$n" # or it was rewound meanwhile
			[ -z "$ABSENT" ] || SKIPPED="$SKIPPED $n "
			tries=0
		elif ! rejoin; then
			pause=${RETRY:-$((tries < 5 ? tries : 5))}
			((tries += 1))
			((SECONDS + pause <= end)) || return
			pause "$pause"
		fi
	done
}

pause() { sleep "$1.$((2 + RANDOM % 7))" || sleep $(($1 + 1)); } # SECONDS, and a random part of one

flush_all() { last_of '*' && flush "$OUT" "$1"; } # SECONDS

rewind() { # [PEER]: what it lacks, or anybody, goes out again, before anything new
	local n key seq i alone
	sent
	for ((n = 1; n <= SENT; n++)); do
		read -r key seq _ <"$S/outbox/$n"
		alone=$key
		for ((i = ${1:-0}; i < ${1:-PEERS - 1} + 1; i++)); do
			whom "$i"
			[ "${P_STATE[i]}" != gone ] || continue
			alone=''
			case $key in
				'*') [ "$seq" -le "${P_HAS[i]%:*}" ] || break 2 ;;
				"$WHOM") [ "$seq" -le "${P_HAS[i]#*:}" ] || break 2 ;;
			esac
		done
		[ "$alone" != '*' ] || break
	done
	((n > SENT)) || set_sent $((n - 1))
}

# ---- the channel: join it, and come back to it ----

access_file() { # what opens the channel: with an operator's secret, or the channel's ticket
	printf 'header = "%s"\n' "Authorization: Bearer $(labelled access "$KEY")" ${TICKET:+"Agentalk-Invite: $TICKET"} >"$S/access" || disk_full
}

enter() { # create or find it, and join -> FOUND (created, found), EPOCH, CURSOR, PAST, the participants as peers
	local word id nonce ciphertext tag cursor epoch past
	request channel PUT '' '' access && is_decimal "$A3" || return
	FOUND=$A2 LIMIT=$A3
	read -r _ _ _ _ _ _ _ word _ <"$TMP.answer"
	is_hex "$word" 32 || word=''
	[ "$word" = "$TICKET" ] || { TICKET=$word && access_file; }
	request cursor POST /join "$S/join" access && is_decimal "$A1" && is_hex "$A2" 32 && is_decimal "$A4" || return
	cursor=$A1 epoch=$A2 past=$A4
	while read -r word id _ _ _ nonce ciphertext tag <&3; do
		[ "$word" = participant ] && is_hex "$id" 32 && [ "$id" != "$ID" ] || continue
		RECORD=''
		! card "$id" "$nonce" "$ciphertext" "$tag" || P_STATE[PEER]=here
		[ -z "$RECORD" ] || commit "$RECORD" || return
	done 3< <(sed 500q "$TMP.answer")
	CURSOR=$cursor EPOCH=$epoch PAST=$past
}

rejoin() { # after CODE: the bridge restarted, gave us up, or is another one. The same channel, name and token again
	local before=$EPOCH i
	case $CODE in
		no_channel | no_participant | other_epoch) ;;
		bad_token | wrong_key | name_taken) fail "the bridge no longer takes this session: $MESSAGE. Tell your user. A new one: bash '$S/agentalk.sh' create $BRIDGE" ;;
		*) return 1 ;;
	esac
	while load && [ "$EPOCH" = "$before" ]; do
		for ((i = 0; i < PEERS; i++)); do P_HOLE[i]=0 && [ "${P_STATE[i]}" = gone ] || P_STATE[i]=lost; done
		enter || return
		ask
		! commit resumed - || break
	done
	rewind
}
