# ---- talk: say, dm, wait ----

take_text() { # an argument of agentalk_say, or standard input -> what `body` gives
	if [ -n "${AGENTALK_TEXT+set}" ]; then BODY=("$AGENTALK_TEXT") BODY_BYTES=${#AGENTALK_TEXT}; else read_body; fi
	unset AGENTALK_TEXT
	[ "$BODY_BYTES" -gt 0 ] || fail "nothing to say: give a text, or one on standard input (agentalk_say <<'END' … END)"
	[ "$BODY_BYTES" -le "$LIMIT" ] || fail "a message has at most $LIMIT bytes: put that into a file and use agentalk_send_file PATH"
}

recipient() { # NAME -> PEER
	names
	find_peer P_NAME "$1" || fail "nobody here is called that. In the channel:$NAMES"
	[ "${P_STATE[PEER]}" != gone ] || fail "$1 has left. In the channel:$NAMES. Tell your user, who can invite it again: agentalk_invite"
}

ago() { if [ "$1" -lt 90 ]; then AGO="$1 s ago"; else AGO="$((($1 + 30) / 60)) min ago"; fi; } # SECONDS -> AGO

presence_of() { # ID listening|idle SECONDS -> PEER, HERE. Status 1: nobody whom we know
	is_decimal "$3" && ago "$3" && find_peer P_ID "$1" || return
	HERE="last seen $AGO"
	(($3 > 2)) || HERE='here a moment ago' # between two polls
	[ "$2" != listening ] || HERE='listening now'
	HERE="${P_NAME[PEER]} (${P_KIND[PEER]}) $HERE"
}

hearers() { # of what was just sent -> HEARERS; QUIET: none for two minutes
	local word id presence seconds n=0
	HEARERS='' QUIET=yes
	while ((n++ < 200)) && read -r word id presence seconds; do
		[ "$word" = recipient ] || continue
		presence_of "$id" "$presence" "$seconds" || HERE='one that has just joined' seconds=0
		[ "$presence" != listening ] && [ "$seconds" -ge 120 ] || QUIET=''
		HEARERS="$HEARERS, $HERE"
	done <"$TMP.answer"
}

hand_over() { # N: what the sender needs to know
	local word
	SKIPPED='' PRESENT=unknown
	if ! flush "$1" 40; then
		say "not sent yet: $MESSAGE. It is kept and goes out with your next call; if that lasts, tell your user. Next: ${CALL}wait"
		return
	fi
	hearers
	case $PRESENT:$HEARERS in
		unknown:) ;; # our listener was faster, and handed it over
		*:) HEARERS=", but nobody else is in the channel: it is kept for whoever joins. Tell your user" ;;
		*) [ -z "$QUIET" ] || HEARERS="$HEARERS. Nobody is listening now: wait, and tell your user if no answer comes" ;;
	esac
	case $SKIPPED in *" $1 "*) HEARERS=", but it is not there now and gets it when it is back. Tell your user if that matters" ;; esac
	say "sent$NOTE$HEARERS. Next: ${CALL}wait"
	load
	shown
	while [ "$SHOWN" -lt "$COMMIT" ]; do
		((SHOWN += 1))
		read -r _ word _ <"$S/log/$SHOWN"
		[[ $word != msg && $word != file ]] || { say "There is something that you have not read yet: wait shows it." && break; }
	done
	(($1 % 60)) || say "This is a long talk: tell your user how it stands."
}

wait_for() { # SECONDS; status 0: news. JOINED waits five more for PAIRED, a file or a person's words two for the next
	local end=$((SECONDS + $1)) news='' polled='' left=20000
	while :; do
		catch_up
		show_new
		[ -z "$MORE" ] || return 0
		case $NEWS in yes) return 0 ;; joined) news=yes end=$((SECONDS + 5)) ;; more) news=yes end=$((SECONDS + 2)) ;; esac
		((SECONDS < end + CUT)) || [ -z "$polled" ] || break
		step $((end - SECONDS))
		load # without what was not committed
		polled=yes
	done
	[ -n "$news" ]
}

step() { # SECONDS: one poll; or a pause while another call of this session polls
	local seconds=8
	[ -e "$S/token" ] || gone
	[ -d "$S/tmp" ] || mkdir "$S/tmp"
	lock receive 10 || { pause 0 && return; }
	sweep
	[ -z "$HOLES" ] || seconds=2
	(($1 >= seconds)) || seconds=$(($1 > 0 ? $1 : 0))
	flush_all 5
	lock receive $((seconds + 5)) || return
	if receive "$seconds"; then TROUBLE='' TRIES=0 && flush_all 5 && return; fi
	mine receive || return
	[ "$CODE" != bad_request ] || { CODE=no_participant && pause 1; } # a cursor that was led astray
	! rejoin || return 0
	TROUBLE=$MESSAGE
	sleep $((TRIES < 5 ? ++TRIES : 5))
}

wait_once() { # SECONDS
	is_decimal "$1" || fail "how many seconds? agentalk_wait 100"
	flush_all 5
	if wait_for "$1"; then
		names
		[ -z "$MORE" ] || say "There is more: call again."
		if [ -n "$NAMES" ]; then say "next, if nothing is left to say: ${CALL}wait"; else say "nobody else is left. If your task is done: ${CALL}leave"; fi
	elif [ -n "$TROUBLE" ]; then
		say "no news: $TROUBLE. Call again, it mends itself; if it lasts, tell your user. A new channel: bash '$S/agentalk.sh' create $BRIDGE. Next: ${CALL}wait"
	elif names && [ -z "$NAMES" ]; then
		say "nobody else is in the channel. Does your user have the line for it (agentalk_invite)? Call again: ${CALL}wait"
	else
		[[ ${P_PAIRED[*]} = *yes* ]] || NOTE=' Not PAIRED yet: that takes a wait of the other side, too.'
		say "no news from$NAMES in $1 s.$NOTE Call again: ${CALL}wait"
	fi
}
