# ---- crypto: AES-256-GCM, ECDSA and ECDH with nothing but the openssl command ----

# `openssl enc` has no GCM: it does the CTR part, bash the GHASH (NIST SP 800-38D, 6.4). Keys are SHA-256 of a
# passphrase, since -pass env: is the one way to hand openssl a key that no process list shows.

random_hex() { hex -N"$1" /dev/urandom; } # BYTES

hex() { # [FILE]; standard input otherwise
	local bytes
	bytes=$(od -An -v -tx1 "$@") && printf %s "${bytes//[!0-9a-f]/}"
}

sha256() { # stdin
	local sum
	sum=$(openssl dgst -sha256) && printf %s "${sum##* }"
}

ctr() { # PASS IV; stdin -> stdout. Its warning about the key derivation is for weak passwords: ours have 256 bits.
	AGENTALK_PASS=$1 openssl enc -aes-256-ctr -nosalt -md sha256 -pass env:AGENTALK_PASS -iv "$2"
}

ZEROS='\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' TABLES_OF='' WIDE_OF='' # one block, for printf

zeros() { printf %b "$ZEROS"; }

hash_key() { zeros | ctr "$1" 00000000000000000000000000000000 | hex; } # PASS -> H, the encryption of a zero block

# od gives eight bytes as one number in this machine's order of bytes, and all sums are kept in that order.
in_order() { # 16 HEX -> WORD
	WORD=$1
	[ "$ONE" != 0000000000000001 ] || WORD=${1:14}${1:12:2}${1:10:2}${1:8:2}${1:6:2}${1:4:2}${1:2:2}${1:0:2}
}

# A block times H is 32 look-ups and XORs: GH<place> and GL<place> hold the high and low half of H times each hex digit
# at one of the 32 places of a block. GHASH is the expression that does it for the block in Y0 and Y1.
# shellcheck disable=SC2034 # expressions in strings use them
ghash_tables() { # H; made once and kept in the session, in a file whose name is as secret as the key
	[ "$TABLES_OF" != "$1" ] || return 0
	local h=$((0x${1:0:16})) l=$((0x${1:16})) place digit bit carry one two high=0 low=0 file=${S:-$TMP}/direct/$1
	TABLES_OF=$1 WIDE_OF=''
	[ -s "$file" ] && {
		read -r GHASH && for ((place = 0; place < 32; place++)); do read -r -a "GH$place" && read -r -a "GL$place"; done
	} <"$file" && return
	for ((place = 0; place < 32; place++)); do
		for bit in 8 4 2 1; do
			printf -v one %016x "$h" && in_order "$one" && one="GH${place}[bit] = 0x$WORD"
			printf -v two %016x "$l" && in_order "$two" && two="GL${place}[bit] = 0x$WORD"
			((one, two, carry = l & 1, l = l >> 1 & ~(1 << 63) | h << 63, h = h >> 1 & ~(1 << 63) ^ (carry ? 0xe1 << 56 : 0)))
		done
		one="H[digit] = H[bit] ^ H[digit - bit]"
		one="${one//H/GH$place}, ${one//H/GL$place}"
		for digit in 0 3 5 6 7 9 10 11 12 13 14 15; do ((bit = digit & -digit, one)); done
		one=$((60 - 4 * (place % 16)))
		[ "$ONE" != 0000000000000001 ] || one=$((4 * (place % 16) ^ 4))
		one="${place}[Y$((place / 16))>>$one&15]" high="$high^GH$one" low="$low^GL$one"
	done
	GHASH="Z=$high,Y1=$low,Y0=Z"
	[ ! -d "${file%/*}" ] || {
		printf '%s\n' "$GHASH"
		for one in GH{0..31}; do
			one="${one}[*]" two="GL${one#GH}"
			printf '%s\n' "${!one}" "${!two}"
		done
	} >"$file" || :
}

# The same for two hex digits at a time: making its tables pays off from about a thousand blocks.
ghash_wide() {
	local place i one high=0 low=0
	[ "$WIDE_OF" != "$TABLES_OF" ] || return 0
	WIDE_OF=$TABLES_OF
	for ((place = 0; place < 16; place++)); do
		one="WH${place}[i] = GH$((2 * place))[i >> 4] ^ GH$((2 * place + 1))[i & 15]"
		one="$one, ${one//H/L}"
		for ((i = 0; i < 256; i++)); do ((one)); done
		one=$((56 - 8 * (place % 8)))
		[ "$ONE" != 0000000000000001 ] || one=$((8 * (place % 8)))
		one="${place}[Y$((place / 8))>>$one&255]" high="$high^WH$one" low="$low^WL$one"
	done
	GHASH="Z=$high,Y1=$low,Y0=Z"
}

# The tag over AAD and the BYTES of ciphertext that stand in FILE behind 16 others; MASK_FILE begins with E(K, J0).
# shellcheck disable=SC2034
gcm_tag() { # H AAD FILE BYTES MASK_FILE -> TAG
	local a b Z=0 Y0=0 Y1=0 n lines=$(((${#2} + 15) / 16)) blocks=$((($4 + 15) / 16)) ONE WORD
	printf '\1%b%s%b' "${ZEROS:2}" "$2" "${ZEROS:0:2*(16 * lines - ${#2})}" >"$TMP/aad" &&
		printf %b "${ZEROS:0:2*(16 * blocks - $4)}" >"$TMP/pad" || disk_full
	{
		read -r ONE _
		ghash_tables "$1"
		[ "$blocks" -lt 1500 ] || ghash_wide
		for ((n = -lines; n <= blocks; n++)); do
			read -r a b
			((n == 0)) || ((Y0 ^= 0x$a, Y1 ^= 0x$b, GHASH))
		done
		printf -v a %016x $((8 * ${#2})) && in_order "$a" && ((Y0 ^= 0x$WORD))
		printf -v a %016x $((8 * $4)) && in_order "$a" && ((Y1 ^= 0x$WORD, GHASH))
		read -r a b
	} < <(od -An -v -tx8 -N$((16 * (lines + blocks + 3))) "$TMP/aad" "$3" "$TMP/pad" "$5")
	printf -v a %016x $((Y0 ^ 0x$a)) && in_order "$a" && TAG=$WORD
	printf -v b %016x $((Y1 ^ 0x$b)) && in_order "$b" && TAG=$TAG$WORD
}

seal() { # PASS H AAD BYTES; 16 zeros and BYTES of plaintext are in $TMP/frame -> NONCE, TAG, CIPHERTEXT
	NONCE=$(od -An -v -tx1 -N12 /dev/urandom) NONCE=${NONCE//[!0-9a-f]/}
	ctr "$1" "${NONCE}00000001" <"$TMP/frame" >"$TMP/sealed" || disk_full
	tail -c +17 "$TMP/sealed" | openssl base64 -A >"$TMP/base64" &
	local pid=$!
	gcm_tag "$2" "$3" "$TMP/sealed" "$4" "$TMP/sealed"
	wait "$pid" && CIPHERTEXT=$(<"$TMP/base64") || disk_full
}

unseal() { # PASS H AAD NONCE CIPHERTEXT TAG -> $TMP/frame and FRAME_BYTES, only when the tag was right; else WHY
	local padding=${5##*[!=]}
	FRAME_BYTES=$((${#5} * 3 / 4 - ${#padding}))
	WHY=bad-nonce && is_hex "$4" 24 || return 1
	WHY=malformed-tag && is_hex "$6" 32 || return 1
	WHY=bad-base64 && is_base64 "$5" || return 1
	{ zeros && printf %s "$5" | openssl base64 -A -d; } >"$TMP/cipher" || disk_full
	ctr "$1" "${4}00000001" <"$TMP/cipher" >"$TMP/plain" || disk_full
	gcm_tag "$2" "$3" "$TMP/cipher" "$FRAME_BYTES" "$TMP/plain"
	WHY=bad-tag && [ "$TAG" = "$6" ] || return 1
	tail -c +17 "$TMP/plain" >"$TMP/frame" || disk_full
}

# P-256 keys travel as base64 SPKI of one fixed shape (RFC 5480: id-ecPublicKey, prime256v1, an uncompressed point).
is_public_key() { [ ${#1} -eq 124 ] && [ "${1:0:36}" = MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE ] && is_base64 "$1"; }

write_pem() { printf '%s\n' '-----BEGIN PUBLIC KEY-----' "${1:0:64}" "${1:64}" '-----END PUBLIC KEY-----' >"$TMP/pem" || disk_full; }

new_key() { # FILE -> PUBLIC
	openssl ecparam -name prime256v1 -genkey -noout -out "$1"
	PUBLIC=$(openssl pkey -in "$1" -pubout | sed '/^-/d' | tr -d '\n')
	is_public_key "$PUBLIC"
}

shared_x() { # PRIVATE_FILE PUBLIC -> 64 hex (SEC 1, 3.3.1)
	write_pem "$2" && openssl pkeyutl -derive -inkey "$1" -peerkey "$TMP/pem" | hex
}

sign() { openssl dgst -sha256 -sign "$1" | openssl base64 -A; } # PRIVATE_FILE; stdin

verify() { # PUBLIC SIGNATURE; stdin is what was signed
	is_base64 "$2" && [ ${#2} -le 96 ] || return 1
	write_pem "$1"
	printf %s "$2" | openssl base64 -A -d >"$TMP/signature" || disk_full
	openssl dgst -sha256 -verify "$TMP/pem" -signature "$TMP/signature" >/dev/null 2>&1
}
