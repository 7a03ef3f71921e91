# What the cases share. Each sources this file, and then has W, a folder that goes with it, and PIDS, which end with it.
# BRIDGE is the path of the built bridge.js, CLIENT that of agentalk.sh. Status 0: right; 77: a tool is not here; else wrong.
set -u
: "${BRIDGE:?}" "${CLIENT:?}"
W=$(mktemp -d) PIDS=''
trap 'kill $PIDS $(pgrep -f "$W/") 2>/dev/null; rm -rf "$W"' EXIT

url_of() { # FILE: the URL in a server's output, once it is there
	local got
	for _ in $(seq 200); do
		got=$(sed -n "s/^listening on //p" "$1")
		if [ -n "$got" ]; then
			echo "$got"
			return
		fi
		sleep .1
	done
	cat "$1" >&2
}

up() { # FLAGS…: starts a bridge -> UP, its process; URL
	node "$BRIDGE" --port "${PORT:-0}" "$@" >"$W/up" 2>&1 &
	UP=$!
	PIDS="$PIDS $UP"
	URL=$(url_of "$W/up")
}

opens() { # NAME [URL]: opens a channel -> LINK; its output is in $W/NAME.out
	AGENTALK_HOME=$W/$1 bash "$CLIENT" create "${2:-$URL}" --name "$1" >"$W/$1.out" 2>&1
	LINK=$(sed -n 's/^Talk to .* start: //p' "$W/$1.out")
}

joins() { # NAME [LINK]
	AGENTALK_HOME=$W/$1 bash "$CLIENT" join "${2:-$LINK}" --name "$1"
}

as() { # NAME COMMAND…: one of the functions of a session
	local who=$1
	shift
	bash -c '. "$0"; "$@"' "$W/$who/agentalk-session-$who.env" "$@"
}

pair() { # a bridge, a channel, and a and b in it
	up
	opens a
	joins b >/dev/null 2>&1 &
	local j=$!
	as a agentalk_wait 15 >/dev/null
	wait $j
	as b agentalk_wait 2 >/dev/null
}

wrong() {
	printf 'WRONG: %s\n' "$*"
	exit 1
}
