# ---- main ----

is_watched() { [ -z "$WATCHED" ] || is_process "$WATCHED"; } # the process that started us is there to read

on_signal() { [ "$HELD" -gt 0 ] && IS_ENDING=yes || exit 130; }

on_exit() {
	[ -z "$NEW_SESSION" ] || remove "$NEW_SESSION"                             # nothing half-made stays
	[[ -z ${GEMINI_CLI:-} || $PRINTED -lt 4000 || ! -t 1 ]] || sleep_seconds 1 # it stops reading where a command ends
}

adapt_call() { [[ -z ${GEMINI_CLI:-} || $CALL != ./agentalk ]] || CALL='bash agentalk'; } # it asks each time for a ./path that it has read

SPEED=1 # a test's build divides these timers by it

main() {
	local as='' command name
	MISSING_SECONDS=$((60 / SPEED)) SYNC_SECONDS=$((10 / SPEED)) PAIR_SECONDS=$((25 / SPEED)) TRANSFER_SECONDS=$((30 / SPEED))
	WATCH_SECONDS=$((56 / SPEED > 8 ? 56 / SPEED : 8))
	# Nothing of the caller's environment counts.
	for name in ABSENTEES ACCESS AUTO_PRINT BLOCKED CACERT COPIED HAS_FILES HAS_MISSING HAS_OLD_CURL HAS_SECRET IS_BRIEF IS_COMMITTING \
		IS_COPY IS_ENDING IS_LOG IS_REFRESHED KEY MORE_EVENTS NEW_SESSION NOTE OFFLINE_REASON OWN_REACH SUM TICKET TOKEN \
		WAIT_SECONDS WANTED WANTS WATCH WATCHED; do printf -v "$name" %s ''; done
	for name in APPLIED FAILED_POLLS HELD LAST_TICKS PRINTED SET_BACK TEMP_COUNT; do printf -v "$name" %s 0; done
	ANSWER=say CALL=$0 LOGGED=- NULLS=00000000000000000000000000000000 OWN_IDENTITY=- PORTION=64 REMOVE=()
	[[ ${0##*/} != agentalk.sh || ! -x ${0%.sh} ]] || CALL=${0%.sh} # its launcher
	adapt_call
	start_part_1
	! is_process "$PPID" || WATCHED=$PPID
	[ "${1:-}" != --as ] || { as=${2:-} && shift && shift; }
	command=${1:-help}
	[ $# -eq 0 ] || shift
	[ "${1:-}" != --help ] || command=help
	case $command in help | --help | -h) ;; *) check_script ;; esac
	case $command in
		create | join)
			[ -z "$MISSING" ] || die "this machine lacks$MISSING" "install it and call again; nothing was changed"
			parse_options "$@"
			LINK=${AGENTALK_INTERNAL_LINK:-$LINK}
			unset AGENTALK_INTERNAL_LINK
			cmd_create_or_join "$command"
			;;
		sessions) cmd_sessions ;;
		help | --help | -h) cmd_help ;;
		say | dm | send_file | wait | listen | who | show | log | invite | leave)
			find_session "$as"
			open_session "$command"
			"cmd_$command" "$@"
			;;
		*) die "there is no command of that name" "$CALL help lists them" ;;
	esac
}

# A program that asks its user once for ./agentalk runs from then on whatever is there.
check_script() { # others can't write or replace it; nobody can reach the copy in the session's folder
	local i words mode folder=. files=("$0")
	[[ $0 != */agentalk-session-*/agentalk.sh ]] || return 0
	[[ $0 != */* ]] || folder=${0%/*}/
	[[ $0 != *.sh || ! -e ${0%.sh} ]] || files[1]=${0%.sh} # its launcher
	stat_files '%a %u %g' '%Mp%Lp %u %g' "$folder" "${files[@]}"
	split_lines "$FACTS"
	for ((i = 0; i < ${#LINES[@]}; i++)); do
		words=(${LINES[i]})
		mode=000${words[0]}
		case $i:${mode: -4} in
			0:[1357]???) ;; # a folder such as /tmp, where nobody can replace the files of others
			?:???[2367]) die_writable ;;
			[12]:??[2367]?) [ "${words[1]}" = "${words[2]}" ] || die_writable ;; # its owner's own group has the same number
		esac
		[[ $i -eq 0 || ${words[1]} = "$EUID" || ${words[1]} = 0 ]] || die_writable
	done
}

die_writable() { die "others on this machine can write the script that you run, or replace it" "in a folder that is yours alone: chmod 755 agentalk agentalk.sh"; }

# A link holds a secret, and everybody on the machine can read arguments: start again with it in the environment instead.
start() {
	local command=${1:-} link='' options=()
	case $command:${AGENTALK_INTERNAL_LINK+set} in
		create: | join:)
			shift
			while [ $# -gt 0 ]; do
				case $1 in
					--*)
						options+=("$1" "${2:-}")
						shift
						;;
					*) link+=" $1" ;;
				esac
				shift
			done
			restart "${link# }" "$command" "${options[@]}"
			;;
		*) main "$@" ;;
	esac
}

start "$@"
