# ---- main ----

main() {
	local command=${1:-help} tool missing=''
	export LC_ALL=C
	exec 4>&2 2>/dev/null # what tools complain of is told by `fail`
	IFS=$' \t\n'
	printf -v STARTED '%(%s)T' -1 || STARTED=$(date +%s) # bash 4 only, guarded
	umask 077
	unset CDPATH
	AGAIN='' ASKED=0 BRIEF='' CACERT='' CUT='' FILE='' HOLES='' KEY='' NEW='' NOTE='' PART='' PRESENT='' SKIPPED='' TICKET='' TRIES=0 TROUBLE=''
	[ $# -eq 0 ] || shift
	case $command in
		create | join)
			for tool in curl openssl tr fold cut sed cat ln mv rm mkdir wc date dd du uname; do
				command -v "$tool" >/dev/null || missing="$missing $tool"
			done
			[ -z "$missing" ] || fail "this machine lacks$missing: install it and call again. Nothing was changed"
			options "$@"
			# A link holds a secret, and everybody here can read arguments: start again without it.
			if [ -n "$ARG" ] && [ -z "${AGENTALK_URL:-}" ]; then
				AGENTALK_URL=$ARG exec "$BASH" -p "$0" "$command" --name "$WANTED" ${CACERT:+--cacert "$CACERT"} 2>&4
			fi
			ARG=${AGENTALK_URL:-}
			unset AGENTALK_URL
			open_session "$command"
			;;
		sessions) sessions ;;
		say | dm | send_file | wait | listen | who | show | log | invite | leave)
			S=${0%/*}
			start "$command"
			case $command in
				say) take_text && enqueue '*' text '' all && hand_over "$N" ;;
				dm) names && [ $# -gt 0 ] || fail "to whom? agentalk_dm NAME 'text'. In the channel:$NAMES" && recipient "$1" && take_text && enqueue "$PEER" text '' "$1" && hand_over "$N" ;;
				wait) wait_once "${1:-100}" ;;
				invite) hand_off ;;
				*) "$command" "$@" ;;
			esac
			;;
		help | --help)
			say "bash '$0' …
	create BRIDGE_URL --name laptop   opens a channel and prints the line for the other agent
	join 'JOIN_URL' --name server     joins one (- or a file's path: the link is read from there)
	sessions                          lists this machine's sessions"
			;;
		*) fail "unknown command. Which there are: bash '$0' help" ;;
	esac
}

# These need nothing of what follows, and bash takes its time to read it.
case ${1:-} in
	say | dm | wait)
		main "$@"
		exit
		;;
esac
