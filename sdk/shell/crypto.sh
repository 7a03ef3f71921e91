# ---- crypto: AES-256-GCM, ECDSA and ECDH with nothing but the openssl command ----

# `openssl enc` has no GCM: it does the CTR part, bash the GHASH (NIST SP 800-38D, 6.4). Keys are SHA-256 of a
# passphrase: -pass env: is the one way to hand openssl a key that no process list shows.

ZEROS='\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' # one block, for printf %b
THREE=$ZEROS$ZEROS$ZEROS
printf -v NULLS %064d 0 && THREE64=${NULLS//0/A} # three blocks, in base64

hex() { # BYTES of stdin -> HEX
	local byte n
	HEX=''
	for ((n = $1; n > 0; n--)); do
		IFS= read -r -d '' -n 1 byte || return # it is empty for a NUL
		printf -v byte %02x "'$byte"
		HEX=$HEX${byte: -2}
	done
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

make_key() { # FILE PASS: what seals and opens. In FILE, H, the encryption of a zero block, and PASS; beside it, what they give
	hex 16 < <(printf %b "$ZEROS" | AGENTALK_PASS=$2 "${CTR[@]}" "${NULLS:0:32}") || fail "openssl can't encrypt here"
	printf '%s\n%s\n' "$HEX" "$2" >"$TMP.key" && mv "$TMP.key" "$1" || disk_full
}

# shellcheck disable=SC2034 # expressions use them
make_tables() { # H BITS -> FILE.BITS: 8 pays off for long texts, and is of H * H
	local h=$((0x${1:0:16})) l=$((0x${1:16})) half=$((64 / $2)) place bit n one high=0 low=0
	local shift='H@[bit] = h, L@[bit] = l, n = l & 1, l = l >> 1 & ~(1 << 63) | h << 63, h = h >> 1 & ~(1 << 63) ^ n * (0xe1 << 56)'
	local add='bit = n & -n, H@[n] = H@[bit] ^ H@[n ^ bit], L@[n] = L@[bit] ^ L@[n ^ bit]'
	[ ! -e "$key.$2" ] || return 0
	for ((place = 0; place < 2 * half; place++)); do
		local "H$place" "L$place"
		one=${shift//@/$place}
		for ((bit = 1 << $2 - 1; bit; bit >>= 1)); do ((one)); done
		one=${add//@/$place}
		for ((n = 0; n < 1 << $2; n++)); do ((one)); done
		one="${place}[Y$((place / half))>>$((64 - (place % half + 1) * $2))&$(((1 << $2) - 1))]"
		high="$high^H$one" low="$low^L$one"
	done
	{
		printf '%s\n' "Z=$high,Y1=$low,Y0=Z"
		for ((place = 0; place < 2 * half; place++)); do for one in "H${place}[*]" "L${place}[*]"; do printf '%s\n' "${!one}"; done; done
	} >"$TMP.tables" && mv "$TMP.tables" "$key.$2" || disk_full
}

ghash() { # BITS FUNCTION…, which go on from G0 and G1 -> G0, G1. What is local here bash finds fastest
	local times n x over Y0=$G0 Y1=$G1
	{
		read -r times
		for ((n = 0; n < 128 / $1; n++)); do
			local "H$n" "L$n"
			read -r -a "H$n" && read -r -a "L$n"
		done
	} <"$key.$1" || gone
	for over in "${@:2}"; do "$over"; done
	G0=$Y0 G1=$Y1
}

over_aad() { # of fields of a-z, 0-9 and *; the result is kept
	local all=() file=$key.${aad//[!a-z0-9]/.}
	read -r Y0 Y1 <"$file" && return
	for ((n = 0; n < ${#aad}; n++)); do all[n]="'${aad:n:1}"; done
	printf -v x %02x "${all[@]}"
	x=$x$NULLS Y0=0 Y1=0
	for ((n = 0; n < 2 * ${#aad}; n += 32)); do ((Y0 ^= 0x${x:n:16}, Y1 ^= 0x${x:n+16:16}, times)); done
	printf '%s\n' "$Y0 $Y1" >"$file"
}

over_text() { # each `step`-th block, so that `rest` are left at the end
	((blocks % step == rest)) || Y0=0 Y1=0
	{
		read -r x
		for ((n = blocks; n > 0; n -= 3)); do # 64 digits of six bits are three blocks
			read -r x
			x=$x$NULLS
			((n % step != rest)) || ((Y0 ^= 64#${x:0:10} << 4 | 64#${x:10:1} >> 2, Y1 ^= 64#${x:10:1} << 62 | 64#${x:11:10} << 2 | 64#${x:21:1} >> 4, times))
			((n < 2 || (n - 1) % step != rest)) || ((Y0 ^= 64#${x:21:1} << 60 | 64#${x:22:10}, Y1 ^= 64#${x:32:10} << 4 | 64#${x:42:1} >> 2, times))
			((n < 3 || (n - 2) % step != rest)) || ((Y0 ^= 64#${x:42:1} << 62 | 64#${x:43:10} << 2 | 64#${x:53:1} >> 4, Y1 ^= 64#${x:53:1} << 60 | 64#${x:54:10}, times))
		done
	} <"$TMP.digits"
}

over_lengths() { ((Y0 ^= 8 * ${#aad}, Y1 ^= 8 * FRAME_BYTES, times)); }

square() { ((Y0 = 0x${h:0:16}, Y1 = 0x${h:16}, times)) && printf -v h %016x%016x "$Y0" "$Y1" && make_tables "$h" 8; }

digits() { tr A-Za-z0-9+/= 0-9a-zA-Z@_0 <"$TMP.base64" | fold -w 64 >"$TMP.digits" || disk_full; } # those of bash's base 64

gcm_tag() { # AAD CIPHERTEXT, which is in $TMP.digits, too, behind three blocks, of which the last is E(K, J0) -> TAG, FRAME_BYTES
	local aad=$1 a b blocks step=1 rest=0 padding=${2##*[!=]} G0=0 G1=0
	FRAME_BYTES=$((3 * ${#2} / 4 - ${#padding})) blocks=$(((FRAME_BYTES + 15) / 16))
	make_tables "$h" 4
	if [ "$blocks" -lt 1000 ]; then
		ghash 4 over_aad over_text over_lengths
	else # two cores take every second block each, times H * H
		ghash 4 square over_aad
		step=2
		{
			rest=1
			ghash 8 over_text
			printf '%s\n' "$G0 $G1"
		} >"$TMP.odd" &
		ghash 8 over_text
		ghash 4 over_lengths
		wait $! && read -r a b <"$TMP.odd" && ((G0 ^= a, G1 ^= b, 1)) || disk_full
	fi
	read -r a <"$TMP.digits"
	printf -v TAG %016x%016x $((G0 ^ 64#${a:42:1} << 62 ^ 64#${a:43:10} << 2 ^ 64#${a:53:1} >> 4)) $((G1 ^ 64#${a:53:1} << 60 ^ 64#${a:54:10}))
}

seal() { # KEY_FILE AAD; stdin: three blocks of zeros and the plaintext -> NONCE, CIPHERTEXT, TAG, FRAME_BYTES
	local key=$1 h pass
	{ read -r h && read -r pass; } <"$key" || gone # never with an empty passphrase
	random 12
	NONCE=$HEX
	counter "$NONCE"
	AGENTALK_PASS=$pass "${CTR[@]}" "$IV" -a -A >"$TMP.base64" || disk_full
	read -r CIPHERTEXT <"$TMP.base64"
	CIPHERTEXT=${CIPHERTEXT:64}
	digits
	gcm_tag "$2" "$CIPHERTEXT"
}

unseal() { # KEY_FILE AAD NONCE CIPHERTEXT TAG -> what parse_frame gives. Status 1: WHY
	WHY=bad-nonce && is_hex "$3" 24 && WHY=malformed-tag && is_hex "$5" 32 && WHY=bad-base64 && is_base64 "$4" || return 1
	local key=$1 h pass pid
	{ read -r h && read -r pass; } <"$key" || gone
	printf %s "$THREE64$4" >"$TMP.base64" || disk_full
	digits
	counter "$3"
	AGENTALK_PASS=$pass "${CTR[@]}" "$IV" -a -A -d <"$TMP.base64" >"$TMP.frame" &
	pid=$!
	gcm_tag "$2" "$4"
	wait "$pid" || disk_full
	{
		hex 48 || disk_full
		printf -v TAG %016x%016x $((0x${TAG:0:16} ^ 0x${HEX:64:16})) $((0x${TAG:16} ^ 0x${HEX:80}))
		WHY=bad-tag && [ "$TAG" = "$5" ] && parse_frame "$FRAME_BYTES" # nobody may look at it before
	} <"$TMP.frame"
}

# base64 SPKI of an uncompressed point on P-256 (RFC 5480)
is_public_key() { [[ ${#1} -eq 124 && $1 = MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE* ]] && is_base64 "$1"; }

write_pem() { printf '%s\n' '-----BEGIN PUBLIC KEY-----' "${1:0:64}" "${1:64}" '-----END PUBLIC KEY-----' >"$TMP.pem" || disk_full; }

shared_x() { write_pem "$2" && hex 32 < <(openssl pkeyutl -derive -inkey "$1" -peerkey "$TMP.pem"); } # PRIVATE_FILE PUBLIC -> HEX

sign() { # PRIVATE_FILE FILE -> SIGNATURE, in base64
	local alphabet=ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/ hex i n
	SIGNATURE=''
	hex=$(openssl dgst -sha256 -hex -sign "$1" "$2") && hex=${hex##* } && is_hex "$hex" $((2 * 0x${hex:2:2} + 4)) || return
	for ((i = 0; i < ${#hex}; i += 6)); do
		n=${hex:i:6}0000 n=$((0x${n:0:6}))
		SIGNATURE=$SIGNATURE${alphabet:n>>18:1}${alphabet:n>>12&63:1}${alphabet:n>>6&63:1}${alphabet:n&63:1}
	done
	case $((${#hex} % 3)) in 1) SIGNATURE=${SIGNATURE%?}= ;; 2) SIGNATURE=${SIGNATURE%??}== ;; esac # two digits for each byte
}

verify() { # PUBLIC SIGNATURE FILE
	[ ${#2} -le 96 ] && is_base64 "$2" && write_pem "$1" || return
	printf %s "$2" >"$TMP.signature" || disk_full
	openssl dgst -sha256 -verify "$TMP.pem" -signature <(openssl base64 -A -d <"$TMP.signature") "$3" >/dev/null
}
