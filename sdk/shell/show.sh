# ---- show: records as words on the screen ----

# Without the characters that move a cursor or turn text around, and with a bar before each line, no peer's words can
# pass for agentalk's. The bytes in the file are exact.
words() { # of the body -> WORDS; BARRED
	local bad IFS='?'
	WORDS="${BODY[*]}"
	for bad in [$'\1'-$'\10'$'\13'-$'\37'$'\177'] $'\302'[$'\200'-$'\237'] $'\330\234' \
		$'\342\200'[$'\216\217\250'-$'\256'] $'\342\201'[$'\246'-$'\251']; do
		case $WORDS in *$bad*) WORDS=${WORDS//$bad/?} ;; esac
	done
	WORDS=${WORDS%$'\n'} BARRED="  | ${WORDS//$'\n'/$'\n  | '}"
}

clock() { printf -v CLOCK '%02d:%02d UTC' $(($1 / 3600 % 24)) $(($1 / 60 % 60)); } # UNIX_SECONDS

record() { # NUMBER -> TEXT; where BRIEF, one line of at most 500 characters. Status 1: nothing to tell
	local at type name a b c d file key line
	read -r at type name a b c d file key <"$S/log/$1"
	RECORD="$type $name $a $b $c $d $file $key"
	case $type in
		msg | file)
			if [ "$type" = file ]; then
				into_inbox
			else
				BODY_BYTES=-1
				read_body <"$S/inbox/$file"
				[ "$BODY_BYTES" -eq "$c" ] || { parse_frame <"$S/in/$key" && into_inbox; }
				words
			fi
			clock "$at"
			file=$S/inbox/$file line="#$b from $name to $a, $c bytes, $CLOCK" line=${line/ to me,/ to you alone,}
			[ "$d" = - ] || line=${line/,/, late,}
			case $type:$BRIEF in
				file:*) line="FILE $line: its SHA-256 is right, saved as $file" ;;
				*:) line="$line:"$'\n'$BARRED ;;
				*) line="$line, whole in $file: ${WORDS//$'\n'/ }" line=${line:0:480} ;;
			esac
			;;
		joined)
			line="JOINED $name. PAIRED follows when both have heard each other."
			[ "$a" = agent ] || line="JOINED $name. It is a person in a browser: write plainly, and give them time."
			;;
		paired)
			line="PAIRED with $name. Who opened the channel speaks first."
			[ "$ROLE" = join ] || line="PAIRED with $name. You speak first: ${CALL}say 'text'"
			;;
		leave) line="LEFT $name${a:+: no sign of life for too long}. If you still need it, tell your user." ;;
		away) line="AWAY $name: not heard of for minutes. What you say is kept for it." ;;
		back) line="BACK $name." ;;
		resumed) line="RESUMED: the bridge had lost the channel; it is open again under the same link, and the others come back by themselves." ;;
		gap) line="GAP: the bridge could not keep everything while you were away; the others were asked to send it again." ;;
		missed) line="MISSED $a from $name: asked for it in vain. Ask $name to repeat what you need." ;;
		keys) line="KEYS $name has new keys: a new session of it, or somebody else who has the link. If that matters, ask your user." ;;
		tampered) line="TAMPERED $a: something under the name of $name was not genuine and is not shown. Tell your user." ;;
		*) return 1 ;;
	esac
	TEXT="agentalk: $AGAIN$line"
}

shown() { # -> SHOWN, the last record that was printed; BEGUN, the last whose printing began
	local all
	read -r -d '' all <"$S/shown"
	all=${all%;*} all=${all##*$'\n'} SHOWN=${all% *} BEGUN=${all#* } # behind the last ; stands what a full disk cut off
}

mark() { printf '\n%s;' "$1 $2" >>"$S/shown"; } # SHOWN BEGUN

show_new() { # -> NEWS: yes; joined or more: something should follow; MORE than one call may print. A kill between two marks: (again)
	local type name file
	NEWS='' MORE=''
	shown
	while [ "$SHOWN" -lt "$COMMIT" ] && lock show 10 && shown && [ "$SHOWN" -lt "$COMMIT" ]; do
		((SHOWN += 1))
		AGAIN=''
		((SHOWN > BEGUN)) || AGAIN='(again) '
		read -r _ type name _ _ _ _ file _ <"$S/log/$SHOWN"
		if record "$SHOWN"; then
			if [ ${#TEXT} -gt "$left" ]; then
				MORE=yes
				[ "$left" -eq 20000 ] || break
				TEXT="${TEXT:0:19000}"$'\n'"agentalk: the rest is in $S/inbox/$file"
			fi
			mark $((SHOWN - 1)) "$SHOWN" || disk_full
			mine show || break # whoever took the lock since then sees our mark, and says (again)
			printf '%s\n' "$TEXT" || exit 1
			((left -= ${#TEXT} + 1))
		fi
		! mine show || mark "$SHOWN" "$SHOWN"
		case $type in
			- | away | back | gap | resumed) ;;
			joined) NEWS=${NEWS:-joined} ;;
			file) NEWS='more' ;;
			*)
				NEWS=yes
				! find_peer P_NAME "$name" || [ "$type:${P_KIND[PEER]}" != msg:human ] || NEWS='more'
				;;
		esac
	done
}
