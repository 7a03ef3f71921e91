# ---- show: records as words on the screen ----

# A peer's words come with two spaces and a bar before each line, and without the characters that move a cursor or turn
# text around: nobody can imitate a line of agentalk's. The bytes in the file are exact.
words_of() { # FILE -> WORDS
  local bad
  IFS= read -r -d '' WORDS < <(tr '\0' '?' <"$1")
  for bad in [$'\1'-$'\10'$'\13'-$'\37'$'\177'] $'\302'[$'\200'-$'\237'] $'\330\234' \
    $'\342\200'[$'\216\217\250'-$'\256'] $'\342\201'[$'\246'-$'\251']; do
    case $WORDS in *$bad*) WORDS=${WORDS//$bad/?} ;; esac
  done
}

quoted() { # FILE
  words_of "$1"
  WORDS=${WORDS%$'\n'}
  printf '  | %s\n' "${WORDS//$'\n'/$'\n  | '}"
}

clock() { printf '%02d:%02d UTC' $(($1 / 3600 % 24)) $(($1 / 60 % 60)); } # UNIX_SECONDS

into_inbox() { [ -e "$S/inbox/$1" ] || mv "$S/held/${1#*-}" "$S/inbox/$1" 2>/dev/null; } # FILE, if a kill came before

# BRIEF makes it one line of at most 500 characters, for listeners that wake an agent by the line.
print_record() { # NUMBER TYPE TIME NAME WORDS
  local type=$2 at=$3 name=$4 to='all' line
  shift 4
  case $type in
    msg | file)
      [ "$1" = all ] || to='you alone'
      [ "$4" = - ] || to="$to, late"
      into_inbox "$5"
      line="$AGAIN#$2 from $name to $to, $3 bytes, $(clock "$at")"
      if [ "$type" = file ]; then
        say "FILE $line: checked and saved as $S/inbox/$5"
      elif [ -z "$BRIEF" ]; then
        say "$line:"
        quoted "$S/inbox/$5"
      else
        words_of "$S/inbox/$5"
        line="$line, whole in $S/inbox/$5: "
        say "$line${WORDS:0:$((480 - ${#line}))}" | tr '\n' ' '
        printf '\n'
      fi
      ;;
    said)
      say "you to $name, $(clock "$at"):"
      quoted "$S/said/$1"
      ;;
    joined)
      line="PAIRED follows when both have heard each other."
      [ "$1" = agent ] || line="It is a person in a browser: write plainly, and give them time."
      say "${AGAIN}JOINED $name. $line"
      ;;
    paired)
      line="It speaks first: $(next wait)"
      [ "$ROLE" = join ] || line="You speak first: $(next "say 'text'")"
      say "${AGAIN}PAIRED with $name. $line"
      ;;
    leave)
      line="It said goodbye or closed its session"
      [ -z "$1" ] || line="No sign of life from it for too long"
      say "${AGAIN}LEFT $name. $line. If you still need it, tell your user."
      ;;
    away) say "${AGAIN}AWAY $name: not heard of for minutes. What you say is kept for it." ;;
    back) say "${AGAIN}BACK $name." ;;
    resumed) say "${AGAIN}RESUMED: the bridge had lost the channel; it is open again under the same link. Nothing to do: the others come back by themselves." ;;
    gap) say "${AGAIN}GAP: the bridge could not keep everything while you were away; the others were asked to send it again." ;;
    missed) say "${AGAIN}MISSED $1 from $name: asked for it in vain. Ask $name to repeat what you need." ;;
    keys) say "${AGAIN}KEYS $name has new keys: a new session of it, or somebody else who has the link. If that matters, ask your user." ;;
    tampered) say "${AGAIN}TAMPERED $1: something under the name of $name was not genuine and is not shown. Tell your user." ;;
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

records_after() { # NUMBER COMMAND…: runs it with each record, until its status is not 0
  local after=$1 g=$COMMIT n word rest
  shift
  for (( ; g > 1; g--)); do
    while read -r word n; do [ "$word" != upto ] || break; done <"$S/log/$((g - 1))"
    [ "$n" -gt "$after" ] || break
  done
  for (( ; g <= COMMIT; g++)); do
    while read -r word n rest; do
      [ "$word" = rec ] && [ "$n" -gt "$after" ] || continue
      # shellcheck disable=SC2086 # words of a safe alphabet
      "$@" "$n" $rest || return 0
    done <"$S/log/$g"
  done
}

# Prints what is new: `begun`, the words, `done`. A kill in between prints it again, marked so.
show_new() { # -> NEWS: yes, or `joined` or `more` where something should follow; MORE: there is more than one call may print
  NEWS='' MORE=''
  shown
  [ "$SHOWN" -lt "$RECORDS" ] && lock show || return 0
  shown
  LEFT=20000
  records_after "$SHOWN" show_one
  unlock show
}

show_one() { # RECORD
  local text=''
  beat show || return # taken over, for we were frozen: the other one prints
  AGAIN=''
  [ "$1" -gt "$BEGUN" ] || AGAIN='(again) '
  [ "$2" = said ] || text=$(print_record "$@")
  if [ ${#text} -gt "$LEFT" ]; then
    MORE=yes
    [ "$LEFT" -eq 20000 ] || return 1
    text="${text:0:19000}"$'\n'"agentalk: the rest is in $S/inbox/${!#}"
  fi
  printf 'begun %s\n' "$1" >>"$S/shown" || disk_full
  [ -z "$text" ] || printf '%s\n' "$text" || exit 1
  printf 'done %s\n' "$1" >>"$S/shown"
  ((LEFT -= ${#text} + 1))
  case $2 in
    said | away | back | gap | resumed) ;;
    joined) NEWS=${NEWS:-joined} ;;
    file) NEWS="more" ;;
    *)
      NEWS=yes
      ! find_peer P_NAME "$4" || [ "$2:${P_KIND[PEER]}" != msg:human ] || NEWS="more"
      ;;
  esac
}
