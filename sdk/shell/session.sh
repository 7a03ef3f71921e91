# ---- session: one participant's private folder, S ----

# session  who we are, written once          log/N     commit N: one record, and the state after it
# token access join *.pem direct/: secrets   outbox/N  what we said; sent: the last that is out; most: that ever was
# in/      what came, each message whole     inbox/    the same for the agent; shown: which records were printed

say() { printf 'agentalk: %s\n' "$*"; }

fail() {
	printf 'agentalk: error: %s\n' "$*" >&4
	exit 1
}

disk_full() { fail "can't write in $S. Is its disk full? Free some space and call again; nothing is lost or half-done."; }

gone() { fail "this session has left the channel"; }

NOW='STARTED + SECONDS' # for arithmetic: Unix seconds

start() { # COMMAND of a session
	local key value
	[ -f "$S/session" ] || fail "this is no session. Which there are: bash '$0' sessions"
	while read -r key value; do printf -v "$key" %s "$value"; done <"$S/session"
	[[ $KEY || $1 = log || $1 = show ]] || fail "you left this channel. agentalk_log shows what was said; a new one: bash '$0' create $BRIDGE"
	workplace
	load
}

workplace() { # -> TMP, how the names of this process's files begin
	ME=$STARTED.$$.$RANDOM TMP=$S/tmp/$ME
	trap clean EXIT
	[ -d "$S/tmp" ] || mkdir "$S/tmp"
	printf %4096s '' >"$TMP.answer" || disk_full
	trap 'exit 130' INT HUP TERM
}

clean() { # nobody has to wait until all is gone
	local name
	for name in receive show; do ! mine "$name" || : >"$S/$name.lock"; done
	[ -z "$NEW" ] || rm -rf "$NEW"
	rm -rf "$TMP".* >/dev/null 4>&- &
}

sweep() { # what the killed left: no call but a listener's lasts twenty minutes
	local file at
	for file in "$S"/tmp/*.answer; do # each has one
		at=${file##*/} at=${at%.*}
		((NOW - ${at%%.*} < 1200)) || [ "$at" = "$ME" ] || mine receive "$at" || rm -rf "${file%answer}"*
	done
}

# The log is the session's one truth. Commit N+1 is made by linking a finished file to that name, which fails if somebody
# was faster: however many of us run, freeze or die in between, each event counts once. It has a record (TIME and what
# happened, - for nothing to tell), HEAD, and a ROW for each stream of each peer's keys, newest last. all, me: up to here
# its broadcasts and its direct messages to us came, or were given up; top_…: up to here there are any; BASE: where its
# broadcasts began for us; HOLE: since when one lacks; HAS: what it has of ours, B:D. Events before PAST led to our joining.
HEAD='CURSOR EPOCH MESSAGES PEERS PAST CAUSES'
ROW='P_ID[i] P_NAME[i] P_KIND[i] P_PUB[i] P_SIGN[i] P_STATE[i] P_PAIRED[i] P_STREAM[i] P_BASE[i] P_all[i] P_top_all[i]
  P_me[i] P_top_me[i] P_HOLE[i] P_HAS[i]'

load() { # the newest commit
	local i
	COMMIT=0 CURSOR=0 EPOCH=0 PAST=0 MESSAGES=0 PEERS=0 CAUSES=''
	read -r COMMIT <"$S/head"
	is_decimal "$COMMIT" && [ -e "$S/log/$COMMIT" ] || COMMIT=0
	while [ -e "$S/log/$((COMMIT + 1))" ]; do ((COMMIT += 1)); done
	# shellcheck disable=SC2086,SC2229
	((COMMIT == 0)) || { read -r _ && read -r $HEAD && for ((i = 0; i < PEERS; i++)); do read -r $ROW; done; } <"$S/log/$COMMIT"
}

catch_up() { [ ! -e "$S/log/$((COMMIT + 1))" ] || load; } # where nothing of it was changed since

commit() { # RECORD. Status 1: somebody was faster, and that is loaded
	local i field
	{
		printf '%s\n' "$((NOW)) $*"
		for field in $HEAD; do printf '%s ' "${!field}"; done
		for ((i = 0; i < PEERS; i++)); do
			printf '\n'
			for field in $ROW; do printf '%s ' "${!field}"; done
		done
		printf '\n'
	} >"$TMP.commit$COMMIT" || disk_full
	if ! ln "$TMP.commit$COMMIT" "$S/log/$((COMMIT + 1))"; then
		[ -e "$S/log/$((COMMIT + 1))" ] || disk_full
		load
		return 1
	fi
	((COMMIT += 1))
	printf '%s\n' "$COMMIT" >"$S/head"
}

tampered() { # CAUSE NAME: told once for each. Status 1
	[[ " $CAUSES " = *" $1:$2 "* || ${#CAUSES} -gt 2000 ]] || CAUSES="$CAUSES $1:$2" RECORD="tampered $2 $1"
	return 1
}

# Locks only save work. One says who holds it and until when: the dead and the frozen are replaced within seconds.
lock() { # NAME SECONDS. Status 1: it is somebody else's
	local until=''
	if ! mine "$1"; then
		read -r _ until <"$S/$1.lock"
		is_decimal "$until" && ((until >= NOW && until <= NOW + 60)) && return 1
	fi
	printf '%s\n' "$ME $((NOW + $2))" >"$S/$1.lock"
	mine "$1" # or somebody was faster
}

mine() { # LOCK [OWNER]
	local owner=''
	read -r owner _ <"$S/$1.lock"
	[ "$owner" = "${2:-$ME}" ]
}

find_peer() { # COLUMN VALUE -> PEER, the newest row that has it
	local cell="$1[PEER]"
	for ((PEER = PEERS - 1; PEER >= 0; PEER--)); do [ "${!cell}" != "$2" ] || return 0; done
	return 1
}

names() { # of those in the channel -> NAMES
	local i
	NAMES=''
	for ((i = 0; i < PEERS; i++)); do [ "${P_STATE[i]}" = gone ] || NAMES="$NAMES ${P_NAME[i]}"; done
}

direct_key() { # PEER -> DIRECT, the file of what is sealed for it alone; made once
	DIRECT=${P_PUB[$1]:36:40} DIRECT=$S/direct/${DIRECT//\//_}
	[ ! -e "$DIRECT" ] || return 0
	shared_x "$S/ecdh.pem" "${P_PUB[$1]}"
	WHY=bad-key && is_hex "$HEX" 64 && make_key "$DIRECT" "agentalk/1 direct $KEY $HEX"
}
