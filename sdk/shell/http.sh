# ---- http: one request, and what its answer means ----

# The answer is text in $TMP.answer (docs/protocol.md). Its last line must start with WORD, or it was cut off; its other
# words are then in A1 to A4. Status 1: CODE, MESSAGE, and RETRY (seconds). Tokens reach curl in a file; more than 4 MiB
# end the transfer.
request() { # WORD METHOD PATH [BODY_FILE [TOKEN_FILE [SECONDS]]]
	local status failed=0 word='' last='' a b c d
	CODE=unreachable RETRY='' MESSAGE="the answer of $BRIDGE was cut off or makes no sense"
	: >"$TMP.answer" && : >"$TMP.headers" || disk_full
	status=$(
		ulimit -f 4096
		exec curl -q -sS --globoff --max-time "${6:-15}" -X "$2" -K "$S/${5:-token}" -H 'Accept: text/plain' \
			${4:+-H 'Content-Type: application/json' -H Expect: --data-binary "@$4"} ${CACERT:+--cacert "$CACERT"} \
			-D "$TMP.headers" -o "$TMP.answer" -w '%{http_code}' "$BRIDGE/channels/$CHANNEL$3" 2>"$TMP.trouble"
	) || failed=$?
	case $failed:$status in
		0:2??)
			while read -r word a b c d _; do last=$word A1=$a A2=$b A3=$c A4=$d; done <"$TMP.answer"
			[ "$last" = "$1" ]
			return
			;;
		0:*)
			read -r word CODE MESSAGE <"$TMP.answer"
			[[ $word:$CODE =~ ^error:[a-z_]+$ ]] || CODE='' MESSAGE="$BRIDGE answered $status: it is no agentalk bridge"
			;;
		23:*) disk_full ;;
		*)
			read -r _ _ MESSAGE <"$TMP.trouble"
			MESSAGE="can't reach $BRIDGE: $MESSAGE (mistyped, down, a sandbox without network until your user allows it, or a private authority, which goes in with --cacert FILE)"
			;;
	esac
	MESSAGE=${MESSAGE//[!\ -~]/?} MESSAGE=${MESSAGE:0:400} MESSAGE=${MESSAGE%.}
	RETRY=$(sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9]\{1,4\}\).*/\1/p' "$TMP.headers")
	is_decimal "$RETRY" || RETRY=''
	return 1
}
