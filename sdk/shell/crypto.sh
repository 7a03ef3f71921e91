# ---- crypto: AES-256-GCM, ECDSA and ECDH with nothing but the openssl command ----

# `openssl enc` has no GCM: it does the CTR part, bash the GHASH (NIST SP 800-38D, 6.4). Keys are SHA-256 of a
# passphrase: -pass env: is the one way to hand openssl a key that no process list shows.

ZEROS='\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' # one block, for printf %b
THREE=$ZEROS$ZEROS$ZEROS TABLES=()
printf -v THREE64 %064d 0 && THREE64=${THREE64//0/A} # the same in base64

hex() { # BYTES of stdin -> HEX
	local byte
	HEX=''
	while [ ${#HEX} -lt $((2 * $1)) ] && IFS= read -r -d '' -n 1 byte; do # which is empty for a NUL
		printf -v byte %02x "'$byte"
		HEX=$HEX${byte: -2}
	done
	[ ${#HEX} -eq $((2 * $1)) ]
}

random() { hex "$1" </dev/urandom || fail "/dev/urandom can't be read"; } # BYTES -> HEX

sha256() { # stdin
	local sum
	sum=$(openssl dgst -sha256) && printf %s "${sum##* }"
}

CTR=(openssl enc -aes-256-ctr -nosalt -md sha256 -pass env:AGENTALK_PASS -iv)

# All begins two blocks before J0, with three of zeros: the last comes out as E(K, J0), which the tag needs, and in base64
# what follows them can be cut off.
counter() { # NONCE -> IV
	local high=$((0x${1:0:12})) low=$((0x${1:12}))
	printf -v IV %012x%012xffffffff $((high - (low == 0) & 0xffffffffffff)) $((low - 1 & 0xffffffffffff))
}

# All sums are kept as od reads eight bytes on the machines of today: the first byte is the lowest.
hash_key() { printf %b "$ZEROS" | AGENTALK_PASS=$1 "${CTR[@]}" "$(printf %032d 0)" | od -An -v -tx8 | tr -d ' \n'; } # PASS -> H, the encryption of a zero block

# shellcheck disable=SC2034 # expressions in strings use them
# GH<bits>_<place> and GL…: the halves of H times each value that the bits at that place of a block may have. GHASH<bits>
# is the sum of these entries, H times the block in Y0 and Y1.
ghash_tables() { # H BITS, of a place: 8 pays off for long texts. Kept in the session, in a file as secret as the key
	local h=$((0x${1:0:16})) l=$((0x${1:16})) places=$((128 / $2)) place bit n one high=0 low=0 file=$S/direct/$1.$2
	# Each byte of X one bit to the right, and its last bit to the byte behind it.
	local half='X >> 1 & 0x7f7f7f7f7f7f7f7f | (X & 0x0101010101010101) << 15' shift add
	shift="GH@[bit] = h, GL@[bit] = l, n = l >> 56 & 1, l = ${half//X/l} | (h >> 56 & 1) << 7, h = (${half//X/h}) ^ n * 0xe1"
	add='bit = n & -n, GH@[n] = GH@[bit] ^ GH@[n ^ bit], GL@[n] = GL@[bit] ^ GL@[n ^ bit]'
	[ "${TABLES[$2]:-}" != "$1" ] || return 0
	TABLES[$2]=$1
	{ read -r "GHASH$2" && for ((place = 0; place < places; place++)); do read -r -a "GH$2_$place" && read -r -a "GL$2_$place"; done; } <"$file" && return
	for ((place = 0; place < places; place++)); do
		one=${shift//@/$2_$place}
		for ((bit = 1 << $2 - 1; bit; bit >>= 1)); do ((one)); done
		one=${add//@/$2_$place}
		for ((n = 0; n < 1 << $2; n++)); do ((one)); done
		one="$2_${place}[Y$((2 * place / places))>>$(((place % (64 / $2) ^ 8 / $2 - 1) * $2))&$(((1 << $2) - 1))]"
		high="$high^GH$one" low="$low^GL$one"
	done
	printf -v "GHASH$2" %s "Z=$high,Y1=$low,Y0=Z"
	{
		one=GHASH$2
		printf '%s\n' "${!one}"
		for ((place = 0; place < places; place++)); do for one in "GH$2_${place}[*]" "GL$2_${place}[*]"; do printf '%s\n' "${!one}"; done; done
	} >"$file"
}

ghash() { # BITS STEP REST: over the blocks of gcm_tag, each STEP-th so that REST are left at the end -> Y0, Y1; a and b, the mask
	local n times=GHASH$1
	Y0=0 Y1=0
	{
		for ((n = lines + blocks; n > 0; n--)); do
			((n != blocks)) || { read -r _ && read -r _ && read -r _; }
			read -r a b
			((n % $2 != $3)) || ((Y0 ^= 0x$a, Y1 ^= 0x$b, times))
		done
		read -r _ && read -r _ && read -r a b
	} <"$TMP.blocks"
}

# shellcheck disable=SC2034 # Z is a variable of GHASH
gcm_tag() { # H AAD BYTES FILE MASK_FILE -> TAG of AAD and the BYTES behind the first 48 of FILE; the third block of MASK_FILE is E(K, J0)
	local a b n Z Y0 Y1 lines=$(((${#2} + 15) / 16)) blocks=$((($3 + 15) / 16))
	local length='(n & 255) << 56 | (n >> 8 & 255) << 48 | n >> 16 << 40' # of n bits, in eight bytes
	printf %s%b "$2" "${ZEROS:0:2*(16 * lines - ${#2})}" >"$TMP.aad" && printf %b "${ZEROS:0:2*(16 * blocks - $3)}" >"$TMP.pad" &&
		od -An -v -tx8 -N$((16 * (lines + blocks + 6))) "$TMP.aad" "$4" "$TMP.pad" "$5" >"$TMP.blocks" || disk_full
	ghash_tables "$1" 4
	if [ "$blocks" -lt 1000 ]; then
		ghash 4 1 0
	else # two cores take every second block each, times H * H
		((Y0 = 0x${1:0:16}, Y1 = 0x${1:16}, GHASH4))
		printf -v n %016x%016x "$Y0" "$Y1"
		ghash_tables "$n" 8
		{ ghash 8 2 1 && printf '%s\n' "$Y0 $Y1"; } >"$TMP.odd" &
		ghash 8 2 0
	fi
	((n = 8 * ${#2}, Y0 ^= length, n = 8 * $3, Y1 ^= length, GHASH4, Y0 ^= 0x$a, Y1 ^= 0x$b))
	[ "$blocks" -lt 1000 ] || { wait $! && read -r a b <"$TMP.odd" && ((Y0 ^= a, Y1 ^= b, 1)); } || disk_full
	printf -v a %016x%016x "$Y0" "$Y1"
	TAG=''
	for n in 14 12 10 8 6 4 2 0 30 28 26 24 22 20 18 16; do TAG=$TAG${a:n:2}; done
}

encrypt() { # PASS; stdin: three blocks of zeros and the plaintext -> NONCE, $TMP.sealed
	random 12
	NONCE=$HEX
	counter "$NONCE"
	AGENTALK_PASS=$1 "${CTR[@]}" "$IV" >"$TMP.sealed" || disk_full
}

seal() { # H AAD BYTES of what was encrypted -> TAG, CIPHERTEXT
	openssl base64 -A <"$TMP.sealed" >"$TMP.base64" &
	local pid=$!
	gcm_tag "$1" "$2" "$3" "$TMP.sealed" "$TMP.sealed"
	wait "$pid" || disk_full
	read -r CIPHERTEXT <"$TMP.base64"
	CIPHERTEXT=${CIPHERTEXT:64}
}

unseal() { # PASS H AAD NONCE CIPHERTEXT TAG -> $TMP.frame behind three blocks, FRAME_BYTES. Status 1: WHY, and nobody may look at it
	WHY=bad-nonce && is_hex "$4" 24 && WHY=malformed-tag && is_hex "$6" 32 && WHY=bad-base64 && is_base64 "$5" || return 1
	local padding=${5##*[!=]}
	FRAME_BYTES=$((${#5} * 3 / 4 - ${#padding}))
	printf %s "$THREE64$5" >"$TMP.base64" || disk_full
	counter "$4"
	AGENTALK_PASS=$1 "${CTR[@]}" "$IV" -a -A -d <"$TMP.base64" >"$TMP.frame" &
	openssl base64 -A -d <"$TMP.base64" >"$TMP.cipher" && wait $! || disk_full
	gcm_tag "$2" "$3" "$FRAME_BYTES" "$TMP.cipher" "$TMP.frame"
	WHY=bad-tag && [ "$TAG" = "$6" ]
}

# base64 SPKI of an uncompressed point on P-256 (RFC 5480)
is_public_key() { [[ ${#1} -eq 124 && $1 = MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE* ]] && is_base64 "$1"; }

write_pem() { printf '%s\n' '-----BEGIN PUBLIC KEY-----' "${1:0:64}" "${1:64}" '-----END PUBLIC KEY-----' >"$TMP.pem" || disk_full; }

new_key() { # FILE -> PUBLIC
	openssl ecparam -name prime256v1 -genkey -noout -out "$1" &&
		PUBLIC=$(openssl pkey -in "$1" -pubout -outform DER | openssl base64 -A) && is_public_key "$PUBLIC"
}

shared_x() { write_pem "$2" && hex 32 < <(openssl pkeyutl -derive -inkey "$1" -peerkey "$TMP.pem"); } # PRIVATE_FILE PUBLIC -> HEX

sign() { openssl dgst -sha256 -sign "$1" "$2" | openssl base64 -A; } # PRIVATE_FILE FILE

verify() { # PUBLIC SIGNATURE FILE
	[ ${#2} -le 96 ] && is_base64 "$2" && write_pem "$1" || return
	printf %s "$2" >"$TMP.signature" || disk_full
	openssl dgst -sha256 -verify "$TMP.pem" -signature <(openssl base64 -A -d <"$TMP.signature") "$3" >/dev/null
}
