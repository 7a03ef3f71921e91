#!/usr/bin/env bash
# agentalk: coding agents on different machines talk, end-to-end encrypted, over a relay that learns nothing. MIT.
#
# Part 1, the effects, is every place that starts a program, reaches the network, touches a file, waits, or prints. Part 2,
# the rules, is bash over these functions: no program, no redirection, no eval. It writes a folder for each session, its
# .env file and .git/info/exclude, sends to the one bridge that it is given, and evaluates nothing that comes from there.

# ==== Part 1: the effects ====

[ "$BASH_VERSION" ] || { echo "agentalk: error: call this with bash, not sh" >&2 && exit 1; }
# Start again without functions, aliases and BASH_ENV of the caller's shell.
[[ $- = *p* || ${1:-} = create || ${1:-} = join ]] || exec "$BASH" -p "$0" "$@"

set -f -o pipefail +o posix

# ---- programs, clock and randomness ----

find_programs() { # -> RUN_<program>, absolute paths; MISSING
	local program path IFS=:
	MISSING='' CALLERS_PATH=$PATH
	for program in cat curl date mkdir mv od openssl rm sleep split stat tee wc; do
		for path in ${PATH//://$program:}/$program ''; do
			[[ $path != /* || ! -f $path || ! -x $path ]] || break
		done
		printf -v "RUN_$program" %s "$path"
		[[ $path || $program = stat ]] || MISSING+=" $program"
	done
	# shellcheck disable=SC2123
	PATH=/dev/null
}

read_clock() { # -> NOW: Unix seconds; TICKS: of a clock that is never set
	NOW=$((STARTED + SECONDS))
	TICKS=$NOW
	[ ! -r /proc/uptime ] || read -r TICKS _ </proc/uptime || TICKS=$NOW
	TICKS=${TICKS%%.*}
	correct_ticks
}

read_date() { DATE=$("$RUN_date" -ud "@$1" +%F || "$RUN_date" -ur "$1" +%F); } # SECONDS -> DATE

sleep_seconds() { "$RUN_sleep" "$1.$((RANDOM % 9))" || "$RUN_sleep" "$1"; } # SECONDS

is_process() { kill -0 "$1"; } # PID

read_hex() { # BYTES of standard input -> HEX
	local byte n
	HEX=''
	for ((n = $1; n > 0; n--)); do
		IFS= read -r -d '' -n 1 byte || return # it is empty for a NUL
		printf -v byte %02x "'$byte"
		HEX+=${byte: -2}
	done
}

random_hex() { read_hex "$1" </dev/urandom || die "/dev/urandom can't be read" "use another machine"; } # BYTES -> HEX

# ---- cryptography: openssl. Keys reach it in its environment or in files ----

read_output() { # PROGRAM ARGUMENTS… -> OUTPUT, the lines that it prints
	local IFS=$'\r\n'
	OUTPUT=($(IFS=' ' && "$@"))
}

hash_files() { # FILE… -> HASHES; HASH, the first
	read_output "$RUN_openssl" dgst -sha256 -r "$@"
	HASHES=("${OUTPUT[@]#\\}") HASHES=("${HASHES[@]%% *}")
	HASH=${HASHES[0]:-}
	[ ${#HASHES[@]} -eq $# ]
}

aes_ctr() { # PASSPHRASE IV, input to output: AES-256-CTR by the passphrase's SHA-256
	AGENTALK_INTERNAL_PASS=$1 "$RUN_openssl" enc -aes-256-ctr -nosalt -md sha256 -pass env:AGENTALK_INTERNAL_PASS -iv "$2"
}

ZERO='\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' # a block

seal_bytes() { # PASSPHRASE IV HEADERS: of a zero block, HEADERS and BODY -> BLOCKS; CIPHERTEXT, without the first
	{ printf %b%s "$ZERO" "$3" && print_body; } | aes_ctr "$1" "$2" >"$TMP.sealed" || die_disk
	read_blocks "$TMP.sealed"
	CIPHERTEXT=$({ read_hex 16 && "$RUN_openssl" base64 -A; } <"$TMP.sealed") && CIPHERTEXT=${CIPHERTEXT%$'\r'}
}

unseal_bytes() { # PASSPHRASE IV CIPHERTEXT -> BLOCKS, as seal_bytes; the plaintext, in $TMP.opened
	{ printf %b "$ZERO" && printf %s "$3" | "$RUN_openssl" base64 -A -d; } >"$TMP.sealed" || die_disk
	aes_ctr "$1" "$2" <"$TMP.sealed" >"$TMP.opened" || die_disk
	read_blocks "$TMP.sealed"
	read_hex 16 <"$TMP.opened" && BLOCKS[0]=$HEX
}

read_opened() { { read_hex 16 && read_bytes; } <"$TMP.opened"; } # -> BYTES: the plaintext, once its tag is right

read_blocks() { # FILE -> BLOCKS: its bytes as lines of 32 hex
	read_output "$RUN_od" -An -v -tx1 <"$1"
	BLOCKS=("${OUTPUT[@]//[!0-9a-f]/}")
}

make_key_pair() { # FILE for the private key -> PUBLIC, base64 SPKI on P-256
	"$RUN_openssl" ecparam -name prime256v1 -genkey -noout -out "$1" &&
		PUBLIC=$("$RUN_openssl" pkey -in "$1" -pubout -outform DER | "$RUN_openssl" base64 -A) && PUBLIC=${PUBLIC%$'\r'}
}

ecdh() { # PRIVATE_FILE, with $TMP.pem -> HEX, the shared x. Status 1: no point of the curve
	HEX=$("$RUN_openssl" pkeyutl -derive -inkey "$1" -peerkey "$TMP.pem" | { read_hex 32 && printf %s "$HEX"; })
}

ecdsa_sign() { # PRIVATE_FILE: of $TMP.signed -> SIGNATURE, base64 DER
	SIGNATURE=$("$RUN_openssl" dgst -sha256 -sign "$1" "$TMP.signed" | "$RUN_openssl" base64 -A) && SIGNATURE=${SIGNATURE%$'\r'}
}

ecdsa_verify() { # SIGNATURE: of $TMP.signed, by the key in $TMP.pem
	printf %s "$1" | "$RUN_openssl" base64 -A -d >"$TMP.signature" || die_disk
	"$RUN_openssl" dgst -sha256 -verify "$TMP.pem" -signature "$TMP.signature" "$TMP.signed" >/dev/null
}

# ---- the network: curl, to BRIDGE/channels/CHANNEL alone ----

run_curl() { # CREDENTIAL SECONDS MAX_KIB ARGUMENTS…: becomes curl
	local config="header=\"Authorization: Bearer $1\""
	[[ -z $TICKET || $1 != "$ACCESS" ]] || config+=$'\n'"header=\"Agentalk-Invite: $TICKET\""
	ulimit -f "$3"
	OPENSSL_CONF=$CURL_CONF TMPDIR=$SESSION/tmp # for the here-string
	[ "$CURL_CONF" ] || unset OPENSSL_CONF
	exec "$RUN_curl" -q -sS -K - --globoff --proto =http,https --max-time "$2" -H Expect: -H 'Accept: text/plain' \
		${CACERT:+--cacert "$CACERT"} "${@:4}" 4>&- <<<"$config" || exit 23
}

http_request() { # METHOD PATH CREDENTIAL BODY SECONDS -> STATUS, CURL_EXIT, RESPONSE; HEAD, its headers
	: >"$TMP.headers" && : >"$TMP.response" && printf %s "$4" >"$TMP.body" || die_disk
	CURL_EXIT=0
	STATUS=$(
		run_curl "$3" "$5" 4096 -X "$1" \
			${4:+-H 'Content-Type: application/json' --data-binary "@$TMP.body"} \
			-D "$TMP.headers" -o "$TMP.response" -w '%{http_code}%{http_connect}' "$BRIDGE/channels/$CHANNEL$2"
	) || CURL_EXIT=$?
	IFS= read -r -d '' -n 65536 HEAD <"$TMP.headers"
	! IFS= read -r -d '' RESPONSE <"$TMP.response" || RESPONSE='' # it has a NUL
}

start_watch() { # PATH SECONDS: polls over one connection
	local n urls=()
	for ((n = $2; n > 0; n -= 8)); do urls[n]="$BRIDGE/channels/$CHANNEL$1&wait=$((n < 8 ? n : 8))"; done
	[ -e /dev/fd/0 ] && exec 5< <(run_curl "$TOKEN" 18 4096 --fail-early -N -w '\nend\n' "${urls[@]}") && WATCH=$!
}

read_watch() { # -> RESPONSE, the next whole answer. Status 1: none
	RESPONSE=''
	while IFS= read -r -t 20 -n 131072 -u 5 LINE && [ ${#RESPONSE} -lt 4194304 ]; do
		[[ $LINE != end || -z $RESPONSE ]] || return # cut off
		[[ -z $LINE || $LINE = end ]] || RESPONSE+=$LINE$'\n'
		[[ $LINE != cursor\ * ]] || return 0
	done
	return 1
}

stop_watch() {
	[ -z "$WATCH" ] || kill "$WATCH"
	exec 5<&-
	WATCH=''
}

transfer_pieces() { # put|get, FILE HASH…: pieces of a file -> STATUSES
	local direction=$1 arguments=()
	shift
	while [ $# -gt 0 ]; do
		if [ "$direction" = put ]; then arguments+=(-T "$1" -o /dev/null); else arguments+=(-o "$1"); fi
		arguments+=("$BRIDGE/channels/$CHANNEL/blobs/$2?participant_id=$ID&epoch=$EPOCH")
		shift 2
	done
	read_output run_curl "$TOKEN" "$TRANSFER_SECONDS" 1024 -H 'Content-Type: application/octet-stream' -w '%{http_code}\n' "${arguments[@]}"
	STATUSES=("${OUTPUT[@]}")
}

# ---- files: of the session's folder, and those that the user names ----

read_bytes() { # [MAX]: standard input, little more than MAX -> BYTES, the pieces between NULs; BYTES_LENGTH
	local piece='' n=0
	BYTES=() BYTES_LENGTH=0
	while IFS= read -r -d '' ${1:+-n "$1"} piece; do
		BYTES[n++]=$piece
		((BYTES_LENGTH += ${#piece} + 1))
		[[ -z $1 || $BYTES_LENGTH -le $1 ]] || break
	done
	BYTES[n]=$piece
	BYTES_LENGTH=$((BYTES_LENGTH + ${#piece}))
}

print_body() { # BODY, pieces as in BYTES
	printf %s "${BODY[0]}" && { [ ${#BODY[@]} -lt 2 ] || printf '\0%s' "${BODY[@]:1}"; }
}

read_line() { IFS= read -r LINE <"$1"; } # FILE -> LINE, its first

read_file() { # FILE -> BYTES, BYTES_LENGTH. Status 1: it can't be read
	BYTES=('') BYTES_LENGTH=0
	[ -r "$1" ] && read_bytes <"$1"
}

read_input() { # MAX: standard input, whose first byte has five seconds -> BYTES. Status 1: nothing comes
	local first
	[ ! -t 0 ] && IFS= read -r -d '' -n 1 -t 5 first || return
	read_bytes "$1"
	if [ -n "$first" ]; then BYTES[0]=$first${BYTES[0]}; else BYTES=('' "${BYTES[@]}"); fi
	((BYTES_LENGTH += 1))
}

write_file() { printf %s "$2" >"$1" || die_disk; } # FILE TEXT

write_body() { { printf %s "$2" && print_body; } >"$1" || die_disk; } # FILE TEXT, then BODY

write_same() { printf %s "$2" 1<>"$1" || die_disk; } # FILE TEXT, not cut first

write_new_file() { (set -C && printf %s "$2" >"$1"); } # FILE TEXT. Status 1: not written

append_file() { printf %s "$2" >>"$1"; } # FILE TEXT

rename() { "$RUN_mv" -f "$1" "$2" || { [ -e "$1" ] && "$RUN_mv" -f "$1" "$2"; }; } # FROM TO

remove() { [ $# -eq 0 ] || "$RUN_rm" -rf "$@"; } # FILE…

make_folder() { "$RUN_mkdir" "$@"; }

list_files() { # BEGINNING -> FILES: those whose paths begin so
	set +f
	FILES=("$1"*)
	set -f
	[[ -e ${FILES[0]} || -L ${FILES[0]} ]] || FILES=()
}

absolute_folder() { FOLDER=$(cd -P "$1" && pwd); } # FOLDER

file_size() { # FILE -> SIZE, in bytes
	read_output "$RUN_wc" -c -- "$1"
	SIZE=${OUTPUT[0]#"${OUTPUT[0]%%[0-9]*}"}
	SIZE=${SIZE%% *}
}

stat_files() { # GNU_FORMAT BSD_FORMAT FILE… -> FACTS, a line each; - if unknown
	FACTS=$("$RUN_stat" -Lc "$1" -- "${@:3}" || "$RUN_stat" -Lf "$2" -- "${@:3}") || FACTS=-
}

split_encrypted() { aes_ctr "$2" "$NULLS" <"$1" | "$RUN_split" -b 1048576 -a 3 - "$3"; } # FILE PASSPHRASE BEGINNING: pieces

hash_pieces() { # PASSPHRASE PIECE…: begins to hash the plaintext
	{ "$RUN_cat" "${@:2}" /dev/null | aes_ctr "$1" "$NULLS" | "$RUN_openssl" dgst -sha256 -r >"$TMP.hash"; } &
}

finish_hash() { # -> HASH
	wait
	read_line "$TMP.hash" && HASH=${LINE:0:64}
}

join_pieces() { # PASSPHRASE FILE PIECE…: decrypted into FILE -> HASH, SIZE
	HASH=$("$RUN_cat" "${@:3}" /dev/null | aes_ctr "$1" "$NULLS" | "$RUN_tee" "$2" | "$RUN_openssl" dgst -sha256 -r) || return
	HASH=${HASH:0:64}
	file_size "$2"
}

# ---- listen --wake: waking the agent program ----

SENTENCE='agentalk: news has come. To read it, run: ./agentalk wait 0'

wake_claude() { # its inbox, a socket; 28: it has taken all in time
	printf '{"type":"auth","token":"%s"}\n{"type":"user","message":{"role":"user","content":"%s"}}\n' "$CLAUDE_CODE_MESSAGING_TOKEN" "$SENTENCE" |
		"$RUN_curl" -q -s -m 2 --unix-socket "$CLAUDE_CODE_MESSAGING_SOCKET" telnet://localhost/ >/dev/null
	[ $? -eq 28 ]
}

wake_codex() { OPENSSL_CONF=$CURL_CONF PATH=$CALLERS_PATH "$1" queue --thread "$CODEX_THREAD_ID" --message "$SENTENCE" >/dev/null; } # PROGRAM

start_waker() { # ARGUMENTS…: outlives this call
	set -m
	OPENSSL_CONF=$CURL_CONF PATH=$CALLERS_PATH "$BASH" -p "$SESSION/agentalk.sh" "$@" </dev/null >/dev/null 4>&- &
	disown
}

# ---- the screen, and the end ----

print() { PRINTED=$((PRINTED + ${#1})) && printf '%s\n' "$1" || exit 1; } # TEXT. Ends where nobody reads it

print_progress() { [ ! -t 4 ] || printf '\r%s ' "$1" >&4; } # TEXT

die() { # WHAT_FAILED WHAT_TO_DO
	printf 'agentalk: error: %s\nagentalk: hint: %s\n' "$@" >&4
	exit 1
}

init_temp() { # -> TMP, how the names of this process's files begin
	find_place
	PROCESS_ID=$STARTED-$$-$RANDOM-$PLACE TMP=$SESSION/tmp/$PROCESS_ID
	trap clean_up EXIT
	trap on_signal INT HUP TERM
	[ -d "$SESSION/tmp" ] || make_folder "$SESSION/tmp" || die_disk
}

clean_up() {
	[ -z "$IS_COMMITTING" ] || return # what a commit names is still to be moved
	stop_watch
	on_exit
	set +f
	"$RUN_rm" -rf "$TMP".* "${REMOVE[@]}" 4>&- >/dev/null &
}

start_part_1() {
	exec 4>&2 2>/dev/null # errors are told in our words
	CURL_CONF=${OPENSSL_CONF:-} IFS=$' \t\n'
	export LC_ALL=C OPENSSL_CONF=/dev/null # no settings but curl's
	umask 077
	unset CDPATH MSYS_NO_PATHCONV MSYS2_ARG_CONV_EXCL # for programs of Windows
	find_programs
	printf -v STARTED '%(%s)T' -1 || STARTED=$("$RUN_date" +%s) # bash 4 only, guarded
	SECONDS=0
	read_clock
}

restart() { # LINK ARGUMENTS…: the link goes on in the environment
	export AGENTALK_INTERNAL_LINK=$1
	exec "$BASH" -p "$0" "${@:2}"
}
