# ---- show: records as words on the screen ----

# A peer's words come with two spaces and a bar before each line, and without the characters that move a cursor or turn
# text around: nobody can imitate a line of agentalk's. The bytes in the file are exact.
words() { # stdin -> WORDS
	local part bad
	WORDS=''
	while IFS= read -r -d '' part; do WORDS="$WORDS$part?"; done
	WORDS=$WORDS$part
	for bad in [$'\1'-$'\10'$'\13'-$'\37'$'\177'] $'\302'[$'\200'-$'\237'] $'\330\234' \
		$'\342\200'[$'\216\217\250'-$'\256'] $'\342\201'[$'\246'-$'\251']; do
		case $WORDS in *$bad*) WORDS=${WORDS//$bad/?} ;; esac
	done
}

quoted() { # stdin
	words
	WORDS=${WORDS%$'\n'}
	printf '  | %s\n' "${WORDS//$'\n'/$'\n  | '}"
}

clock() { printf '%02d:%02d UTC' $(($1 / 3600 % 24)) $(($1 / 60 % 60)); } # UNIX_SECONDS

# BRIEF makes it one line of at most 500 characters, for listeners that wake an agent by the line.
print_record() { # NUMBER
	local at type name a b c d file key to='all' line
	read -r at type name a b c d file key <"$S/log/$1"
	case $type in
		msg | file)
			[ "$a" = all ] || to='you alone'
			[ "$d" = - ] || to="$to, late"
			RECORD="$type $name $a $b $c $d $file $key"
			into_inbox
			file=$S/inbox/$file line="$AGAIN#$b from $name to $to, $c bytes, $(clock "$at")"
			if [ "$type" = file ]; then
				say "FILE $line: its SHA-256 is right, saved as $file"
			elif [ -z "$BRIEF" ]; then
				say "$line:"
				quoted <"$file"
			else
				words <"$file"
				line="$line, whole in $file: " WORDS=${WORDS//$'\n'/ }
				say "$line${WORDS:0:$((480 - ${#line}))}"
			fi
			;;
		joined)
			line="PAIRED follows when both have heard each other."
			[ "$a" = agent ] || line="It is a person in a browser: write plainly, and give them time."
			say "${AGAIN}JOINED $name. $line"
			;;
		paired)
			line="It speaks first: ${CALL}wait"
			[ "$ROLE" = join ] || line="You speak first: ${CALL}say 'text'"
			say "${AGAIN}PAIRED with $name. $line"
			;;
		leave)
			line="It said goodbye or closed its session"
			[ -z "$a" ] || line="No sign of life from it for too long"
			say "${AGAIN}LEFT $name. $line. If you still need it, tell your user."
			;;
		away) say "${AGAIN}AWAY $name: not heard of for minutes. What you say is kept for it." ;;
		back) say "${AGAIN}BACK $name." ;;
		resumed) say "${AGAIN}RESUMED: the bridge had lost the channel; it is open again under the same link. Nothing to do: the others come back by themselves." ;;
		gap) say "${AGAIN}GAP: the bridge could not keep everything while you were away; the others were asked to send it again." ;;
		missed) say "${AGAIN}MISSED $a from $name: asked for it in vain. Ask $name to repeat what you need." ;;
		keys) say "${AGAIN}KEYS $name has new keys: a new session of it, or somebody else who has the link. If that matters, ask your user." ;;
		tampered) say "${AGAIN}TAMPERED $a: something under the name of $name was not genuine and is not shown. Tell your user." ;;
	esac
}

shown() { # -> SHOWN, the last record that was printed; BEGUN, the last whose printing began
	local word n lines=0
	SHOWN=0 BEGUN=0
	while read -r word n; do
		((lines += 1))
		case $word in begun) BEGUN=$n ;; done) SHOWN=$n ;; esac
	done <"$S/shown"
	[ "$lines" -lt 200 ] || { printf 'begun %s\ndone %s\n' "$BEGUN" "$SHOWN" >"$TMP/shown" && mv "$TMP/shown" "$S/shown"; }
}

# Prints what is new: `begun`, the words, `done`. A kill in between prints it again, marked so.
show_new() { # -> NEWS: yes, or `joined` or `more` where something should follow; MORE: there is more than one call may print
	local text type name file
	NEWS='' MORE=''
	shown
	while [ "$SHOWN" -lt "$COMMIT" ] && lock show 10; do # by another of us, if we were frozen meanwhile
		shown
		((SHOWN < COMMIT)) || break
		((SHOWN += 1))
		AGAIN=''
		[ "$SHOWN" -gt "$BEGUN" ] || AGAIN='(again) '
		read -r _ type name _ _ _ _ file _ <"$S/log/$SHOWN"
		text=$(print_record "$SHOWN")
		if [ ${#text} -gt "$left" ]; then
			MORE=yes
			[ "$left" -eq 20000 ] || break
			text="${text:0:19000}"$'\n'"agentalk: the rest is in $S/inbox/$file"
		fi
		[ -z "$text" ] || printf 'begun %s\n' "$SHOWN" >>"$S/shown" || disk_full
		[ -z "$text" ] || printf '%s\n' "$text" || exit 1
		printf 'done %s\n' "$SHOWN" >>"$S/shown"
		((left -= ${#text} + 1))
		case $type in
			- | away | back | gap | resumed) ;;
			joined) NEWS=${NEWS:-joined} ;;
			file) NEWS="more" ;;
			*)
				NEWS=yes
				! find_peer P_NAME "$name" || [ "$type:${P_KIND[PEER]}" != msg:human ] || NEWS="more"
				;;
		esac
	done
}
