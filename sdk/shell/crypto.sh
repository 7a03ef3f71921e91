# ---- crypto: AES-256-GCM, ECDSA and ECDH with nothing but the openssl command ----

# `openssl enc` has no GCM: it does the CTR part, bash the GHASH (NIST SP 800-38D, 6.4). Keys are SHA-256 of a
# passphrase: -pass env: is the one way to hand openssl a key that no process list shows.

ZEROS='\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' TABLES='' # one block, for printf %b

hex() { # od's FILE or options; standard input otherwise
	local bytes
	bytes=$(od -An -v -tx1 "$@") && printf %s "${bytes//[!0-9a-f]/}"
}

sha256() { # stdin
	local sum
	sum=$(openssl dgst -sha256) && printf %s "${sum##* }"
}

ctr() { AGENTALK_PASS=$1 openssl enc -aes-256-ctr -nosalt -md sha256 -pass env:AGENTALK_PASS -iv "$2"; } # PASS IV; stdin

# All sums are kept as od reads eight bytes on the machines of today: the first byte is the lowest.
hash_key() { printf %b "$ZEROS" | ctr "$1" "$(printf %032d 0)" | od -An -v -tx8 | tr -d ' \n'; } # PASS -> H, the encryption of a zero block

# shellcheck disable=SC2034 # expressions in strings use them
# GH<place> and GL<place>: the halves of H times each value that the bits at that place of a block may have. GHASH is
# the sum of these entries, H times the block in Y0 and Y1.
ghash_tables() { # H BITS, of a place: 8 pays off for long texts. Kept in the session, in a file as secret as the key
	local h=$((0x${1:0:16})) l=$((0x${1:16})) places=$((128 / $2)) place bit n one high=0 low=0 file=$S/direct/$1.$2
	# Each byte of X one bit to the right, and its last bit to the byte behind it.
	local half='X >> 1 & 0x7f7f7f7f7f7f7f7f | (X & 0x0101010101010101) << 15' shift add
	shift="GH@[bit] = h, GL@[bit] = l, n = l >> 56 & 1, l = ${half//X/l} | (h >> 56 & 1) << 7, h = (${half//X/h}) ^ n * 0xe1"
	add='bit = n & -n, GH@[n] = GH@[bit] ^ GH@[n ^ bit], GL@[n] = GL@[bit] ^ GL@[n ^ bit]'
	[ "$TABLES" != "$1 $2" ] || return 0
	TABLES="$1 $2"
	{ read -r GHASH && for ((place = 0; place < places; place++)); do read -r -a "GH$place" && read -r -a "GL$place"; done; } <"$file" && return
	for ((place = 0; place < places; place++)); do
		one=${shift//@/$place}
		for ((bit = 1 << $2 - 1; bit; bit >>= 1)); do ((one)); done
		one=${add//@/$place}
		for ((n = 0; n < 1 << $2; n++)); do ((one)); done
		one="${place}[Y$((2 * place / places))>>$(((place % (64 / $2) ^ 8 / $2 - 1) * $2))&$(((1 << $2) - 1))]"
		high="$high^GH$one" low="$low^GL$one"
	done
	GHASH="Z=$high,Y1=$low,Y0=Z"
	{
		printf '%s\n' "$GHASH"
		for ((place = 0; place < places; place++)); do for one in "GH${place}[*]" "GL${place}[*]"; do printf '%s\n' "${!one}"; done; done
	} >"$file"
}

# shellcheck disable=SC2034 # Z is a variable of GHASH
gcm_tag() { # H AAD FILE BYTES MASK_FILE -> TAG of AAD and the BYTES behind the first 16 of FILE; MASK_FILE begins with E(K, J0)
	local a b n Z Y0=0 Y1=0 lines=$(((${#2} + 15) / 16)) blocks=$((($4 + 15) / 16))
	local length='(n & 255) << 56 | (n >> 8 & 255) << 48 | n >> 16 << 40' # of n bits, in eight bytes
	printf %s%b "$2" "${ZEROS:0:2*(16 * lines - ${#2})}" >"$TMP/aad" && printf %b "${ZEROS:0:2*(16 * blocks - $4)}" >"$TMP/pad" &&
		od -An -v -tx8 -N$((16 * (lines + blocks + 2))) "$TMP/aad" "$3" "$TMP/pad" "$5" >"$TMP/blocks" || disk_full
	ghash_tables "$1" $((blocks < 1500 ? 4 : 8))
	{
		for ((n = -lines; n <= blocks; n++)); do
			read -r a b
			((n == 0)) || ((Y0 ^= 0x$a, Y1 ^= 0x$b, GHASH))
		done
		read -r a b
	} <"$TMP/blocks"
	((n = 8 * ${#2}, Y0 ^= length, n = 8 * $4, Y1 ^= length, GHASH))
	printf -v a %016x%016x $((Y0 ^ 0x$a)) $((Y1 ^ 0x$b))
	TAG=''
	for n in 14 12 10 8 6 4 2 0 30 28 26 24 22 20 18 16; do TAG=$TAG${a:n:2}; done
}

seal() { # PASS H AAD BYTES; $TMP/frame: 16 zeros and BYTES of plaintext -> NONCE, TAG, CIPHERTEXT
	NONCE=$(hex -N12 /dev/urandom)
	ctr "$1" "${NONCE}00000001" <"$TMP/frame" >"$TMP/sealed" || disk_full
	tail -c +17 "$TMP/sealed" | openssl base64 -A >"$TMP/base64" &
	local pid=$!
	gcm_tag "$2" "$3" "$TMP/sealed" "$4" "$TMP/sealed"
	wait "$pid" && CIPHERTEXT=$(<"$TMP/base64") || disk_full
}

unseal() { # PASS H AAD NONCE CIPHERTEXT TAG -> $TMP/frame and FRAME_BYTES, only when the tag was right; else WHY
	local padding=${5##*[!=]}
	FRAME_BYTES=$((${#5} * 3 / 4 - ${#padding}))
	WHY=bad-nonce && is_hex "$4" 24 && WHY=malformed-tag && is_hex "$6" 32 && WHY=bad-base64 && is_base64 "$5" || return 1
	{ printf %b "$ZEROS" && printf %s "$5" | openssl base64 -A -d; } >"$TMP/cipher" &&
		ctr "$1" "${4}00000001" <"$TMP/cipher" >"$TMP/plain" || disk_full
	gcm_tag "$2" "$3" "$TMP/cipher" "$FRAME_BYTES" "$TMP/plain"
	WHY=bad-tag && [ "$TAG" = "$6" ] || return 1
	tail -c +17 "$TMP/plain" >"$TMP/frame" || disk_full
}

# base64 SPKI of an uncompressed point on P-256 (RFC 5480)
is_public_key() { [[ ${#1} -eq 124 && $1 = MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE* ]] && is_base64 "$1"; }

write_pem() { printf '%s\n' '-----BEGIN PUBLIC KEY-----' "${1:0:64}" "${1:64}" '-----END PUBLIC KEY-----' >"$TMP/pem" || disk_full; }

new_key() { # FILE -> PUBLIC
	openssl ecparam -name prime256v1 -genkey -noout -out "$1" &&
		PUBLIC=$(openssl pkey -in "$1" -pubout -outform DER | openssl base64 -A) && is_public_key "$PUBLIC"
}

shared_x() { write_pem "$2" && openssl pkeyutl -derive -inkey "$1" -peerkey "$TMP/pem" | hex; } # PRIVATE_FILE PUBLIC

sign() { openssl dgst -sha256 -sign "$1" | openssl base64 -A; } # PRIVATE_FILE; stdin

verify() { # PUBLIC SIGNATURE; stdin is what was signed
	[ ${#2} -le 96 ] && is_base64 "$2" && write_pem "$1" || return
	printf %s "$2" | openssl base64 -A -d >"$TMP/signature" || disk_full
	openssl dgst -sha256 -verify "$TMP/pem" -signature "$TMP/signature" >/dev/null 2>&1
}
