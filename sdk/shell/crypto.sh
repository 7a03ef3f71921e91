# ==== Part 2: the rules ====

# This prints what looks like a program, a redirection or an eval from here on, and so nothing:
# sed '1,/^# ==== Part 2/d; /^[[:space:]]*#/d' agentalk.sh | grep -E '`|[<>]\(|\$\([^(]|[<>]&[^2]|[<>][^] =(<>0-9$,&]|"\$RUN_|(^|[;&|({!]|then|else|do|if|while|until)[[:space:]]*((eval|exec|source|builtin|command|coproc|trap|cd|kill|\.) |/)'

# ---- AES-256-GCM (NIST SP 800-38D), ids and keys ----

is_hex() { [[ ${#1} -eq $2 && $1 != *[!0-9a-f]* ]]; } # TEXT LENGTH

is_base64() { # canonical (RFC 4648, 3.5): whole groups, padded, no bits beyond the last byte, not empty
	[[ ${#1} -ge 4 && $((${#1} % 4)) -eq 0 && ${1:0:${#1}-2} != *[!A-Za-z0-9+/]* ]] || return
	case ${1:${#1}-3} in
		?[A-Za-z0-9+/][A-Za-z0-9+/] | ?[AEIMQUYcgkosw048]= | [AQgw]==) ;;
		*) return 1 ;;
	esac
}

write_signed() { write_body "$TMP.signed" "$1"; } # TEXT, then BODY: what is verified or hashed

# GHASH (6.4) by a table for each of the 32 digits of a block: uPD is the upper half of the product for place P (0 to 9, a to v)
# and digit D, lPD the lower. They are local, where bash finds them fastest.
# shellcheck disable=SC1102,SC2086 # names that end with a digit of y
gcm_tag() { # H AAD, and BLOCKS: E(K, J0), then the ciphertext, as lines of 32 hex -> TAG
	local p bit carry u8 u4 u2 u1 l8 l4 l2 l1 high=$((0x${1:0:16})) low=$((0x${1:16}))
	local n y block text='' length=0 blocks=()
	for p in 0 1 2 3 4 5 6 7 8 9 a b c d e f g h i j k l m n o p q r s t u v; do
		for bit in 8 4 2 1; do
			printf -v "u$bit" %s "$high"
			printf -v "l$bit" %s "$low"
			carry=$((low & 1))
			low=$((low >> 1 & 0x7fffffffffffffff | high << 63))
			high=$((high >> 1 & 0x7fffffffffffffff ^ carry * (0xe1 << 56)))
		done
		local "u${p}0=0" "u${p}1=$u1" "u${p}2=$u2" "u${p}3=$((u2 ^ u1))" \
			"u${p}4=$u4" "u${p}5=$((u4 ^ u1))" "u${p}6=$((u4 ^ u2))" "u${p}7=$((u4 ^ u2 ^ u1))" \
			"u${p}8=$u8" "u${p}9=$((u8 ^ u1))" "u${p}a=$((u8 ^ u2))" "u${p}b=$((u8 ^ u2 ^ u1))" \
			"u${p}c=$((u8 ^ u4))" "u${p}d=$((u8 ^ u4 ^ u1))" "u${p}e=$((u8 ^ u4 ^ u2))" "u${p}f=$((u8 ^ u4 ^ u2 ^ u1))"
		local "l${p}0=0" "l${p}1=$l1" "l${p}2=$l2" "l${p}3=$((l2 ^ l1))" \
			"l${p}4=$l4" "l${p}5=$((l4 ^ l1))" "l${p}6=$((l4 ^ l2))" "l${p}7=$((l4 ^ l2 ^ l1))" \
			"l${p}8=$l8" "l${p}9=$((l8 ^ l1))" "l${p}a=$((l8 ^ l2))" "l${p}b=$((l8 ^ l2 ^ l1))" \
			"l${p}c=$((l8 ^ l4))" "l${p}d=$((l8 ^ l4 ^ l1))" "l${p}e=$((l8 ^ l4 ^ l2))" "l${p}f=$((l8 ^ l4 ^ l2 ^ l1))"
	done
	for ((n = 0; n < ${#2}; n++)); do
		printf -v block %02x "'${2:n:1}"
		text+=$block
	done
	for ((n = 0; n < ${#text}; n += 32)); do blocks[n / 32]=${text:n:32}; done
	for block in "${BLOCKS[@]:1}"; do ((length += ${#block})); done
	printf -v block %016x%016x $((4 * ${#text})) $((4 * length)) # in bits
	high=0 low=0
	for block in "${blocks[@]}" "${BLOCKS[@]:1}" "$block"; do
		[ ${#block} -eq 32 ] || block=${block}00000000000000000000000000000000
		printf -v y %016x%016x $((high ^ 0x${block:0:16})) $((low ^ 0x${block:16:16}))
		high=$((u0${y:0:1} ^ u1${y:1:1} ^ u2${y:2:1} ^ u3${y:3:1} ^ u4${y:4:1} ^ u5${y:5:1} ^ u6${y:6:1} ^ u7${y:7:1} ^ \
			u8${y:8:1} ^ u9${y:9:1} ^ ua${y:10:1} ^ ub${y:11:1} ^ uc${y:12:1} ^ ud${y:13:1} ^ ue${y:14:1} ^ uf${y:15:1} ^ \
			ug${y:16:1} ^ uh${y:17:1} ^ ui${y:18:1} ^ uj${y:19:1} ^ uk${y:20:1} ^ ul${y:21:1} ^ um${y:22:1} ^ un${y:23:1} ^ \
			uo${y:24:1} ^ up${y:25:1} ^ uq${y:26:1} ^ ur${y:27:1} ^ us${y:28:1} ^ ut${y:29:1} ^ uu${y:30:1} ^ uv${y:31:1}))
		low=$((l0${y:0:1} ^ l1${y:1:1} ^ l2${y:2:1} ^ l3${y:3:1} ^ l4${y:4:1} ^ l5${y:5:1} ^ l6${y:6:1} ^ l7${y:7:1} ^ \
			l8${y:8:1} ^ l9${y:9:1} ^ la${y:10:1} ^ lb${y:11:1} ^ lc${y:12:1} ^ ld${y:13:1} ^ le${y:14:1} ^ lf${y:15:1} ^ \
			lg${y:16:1} ^ lh${y:17:1} ^ li${y:18:1} ^ lj${y:19:1} ^ lk${y:20:1} ^ ll${y:21:1} ^ lm${y:22:1} ^ ln${y:23:1} ^ \
			lo${y:24:1} ^ lp${y:25:1} ^ lq${y:26:1} ^ lr${y:27:1} ^ ls${y:28:1} ^ lt${y:29:1} ^ lu${y:30:1} ^ lv${y:31:1}))
	done
	block=${BLOCKS[0]}
	printf -v TAG %016x%016x $((high ^ 0x${block:0:16})) $((low ^ 0x${block:16}))
}

initial_counter() { IV=${1}00000001; } # NONCE -> IV: J0 of 7.1

seal() { # KEY_NAME AAD HEADERS, and BODY -> NONCE, CIPHERTEXT, TAG
	read_key "$1"
	random_hex 12
	NONCE=$HEX
	initial_counter "$NONCE"
	seal_bytes "$PASSPHRASE" "$IV" "$3"$'\n'
	is_base64 "$CIPHERTEXT" || die "openssl can't encrypt here, or was ended" "call again; nothing was sent"
	gcm_tag "$HASH_KEY" "$2"
}

unseal() { # KEY_NAME AAD NONCE CIPHERTEXT TAG -> BYTES. Status 1: REASON
	REASON=bad-nonce && is_hex "$3" 24 && REASON=bad-tag-format && is_hex "$5" 32 && REASON=bad-base64 && is_base64 "$4" || return
	read_key "$1"
	initial_counter "$3"
	unseal_bytes "$PASSPHRASE" "$IV" "$4"
	gcm_tag "$HASH_KEY" "$2"
	REASON=auth-failed
	[ "$TAG" = "$5" ] && read_opened # nobody looks at the plaintext before
}

# A key is a file keys/NAME: H, which is the encrypted zero block, and the passphrase.
read_key() { # NAME -> HASH_KEY, PASSPHRASE
	read_line "$SESSION/keys/$1" || die_left
	HASH_KEY=${LINE%% *} PASSPHRASE=${LINE#* }
}

make_key() { # NAME PASSPHRASE
	BODY=('')
	seal_bytes "$2" "$NULLS" ''
	is_hex "${BLOCKS[0]:-}" 32 || die "openssl can't encrypt here" "check what 'openssl version' says; agentalk needs AES-256-CTR"
	write_file "$TMP.key" "${BLOCKS[0]} $2"$'\n'
	rename "$TMP.key" "$SESSION/keys/$1" || die_disk
}

write_pem() { # PUBLIC: for ecdh and ecdsa_verify
	write_file "$TMP.pem" "-----BEGIN PUBLIC KEY-----"$'\n'"${1:0:64}"$'\n'"${1:64}"$'\n'"-----END PUBLIC KEY-----"$'\n'
}

labelled_hash() { # LABEL VALUE… -> HASH
	write_file "$TMP.text" "agentalk/1 $*"
	hash_files "$TMP.text"
}

short_id() { # LABEL VALUE… -> HASH, its first 32 hex
	labelled_hash "$@"
	HASH=${HASH:0:32}
}

direct_key_of() { # PEER -> KEY_NAME; made once. Status 1: its key is no point of the curve
	local sid=${P_SID[$1]} first=$SID second=${P_SID[$1]}
	KEY_NAME=direct-$SID-$sid
	[ ! -e "$SESSION/keys/$KEY_NAME" ] || return 0
	[[ $first < $second ]] || first=$sid second=$SID
	read_public_keys "$1" && write_pem "${P_PUB[$1]}" && ecdh "$SESSION/keys/ecdh-$SID" && is_hex "$HEX" 64 || return
	make_key "$KEY_NAME" "agentalk/1 direct $KEY $first $second $HEX"
}

# base64 SPKI of an uncompressed point on P-256 (RFC 5480), in its one form
is_public_key() { [[ ${#1} -eq 124 && $1 = MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE*== ]] && is_base64 "$1"; }

test_cryptography() { # by a known answer: dies where this machine computes wrongly
	make_key test "agentalk/1 test"
	read_key test
	BODY=('known')
	seal_bytes "$PASSPHRASE" "${NULLS:0:24}00000001" ''
	gcm_tag "$HASH_KEY" test
	[ "$CIPHERTEXT:$TAG" = g6WI3og=:c7a8f049618331ec771bcdfe6e7b9545 ] ||
		die "this bash ($BASH_VERSION) or its openssl computes wrongly" "check 'openssl version' and its configuration; nothing was sent"
}
