# ---- crypto: AES-256-GCM, ECDSA and ECDH with nothing but the openssl command ----

# `openssl enc` has no GCM: it does the CTR part, bash the GHASH (NIST SP 800-38D, 6.4). Keys are SHA-256 of a
# passphrase, since -pass env: is the one way to hand openssl a key that no process list shows.

random_hex() { hex -N"$1" /dev/urandom; } # BYTES

hex() { # [FILE]; standard input otherwise; a few bytes
  local bytes
  bytes=$(od -An -v -tx1 "$@") && printf %s "${bytes//[!0-9a-f]/}"
}

sha256() { # stdin
  local sum
  sum=$(openssl dgst -sha256) && printf %s "${sum##* }"
}

ctr() { # PASS IV; stdin -> stdout. Its warning about the key derivation is for weak passwords: ours have 256 bits.
  AGENTALK_PASS=$1 openssl enc -aes-256-ctr -nosalt -md sha256 -pass env:AGENTALK_PASS -iv "$2" 2>/dev/null
}

ZEROS='\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' # one block, for printf

zeros() { printf %b "$ZEROS"; }

hash_key() { zeros | ctr "$1" 00000000000000000000000000000000 | hex; } # PASS -> H, the encryption of a zero block

# A block times H is 32 look-ups and XORs: GH<place> and GL<place> hold the high and low half of H times each hex digit
# at one of the 32 places of a block. HIGH and LOW are the two sums over the block in Y0 and Y1. All these are expressions
# in strings, which arithmetic evaluates.
ghash_tables() { # H; made once and kept in the session
  [ "${TABLES_OF:-}" != "$1" ] || return 0
  local h=$((0x${1:0:16})) l=$((0x${1:16:16})) place digit bit carry one='' sum='' two file=${S:-$TMP}/direct/$1
  HIGH=0 LOW=0 TABLES_OF=$1
  if [ -e "$file" ]; then # whole, or made again; its name is as secret as the key, so no program is given it
    {
      read -r HIGH && read -r LOW
      for ((place = 0; place < 32; place++)); do read -r -a "GH$place" && read -r -a "GL$place" || break; done
    } <"$file"
    [ "$place" -lt 32 ] || return 0
    HIGH=0 LOW=0
  fi
  for ((place = 0; place < 32; place++)); do
    one="GH${place}[bit] = h, GL${place}[bit] = l"
    sum="H[digit] = H[digit - bit] ^ H[bit]"
    sum="${sum//H/GH$place}, ${sum//H/GL$place}"
    for bit in 8 4 2 1; do
      ((one, carry = l & 1))
      ((l = l >> 1 & ~(1 << 63) | h << 63, h = (h >> 1 & ~(1 << 63)) ^ (carry ? 0xe1 << 56 : 0)))
    done
    for digit in 0 3 5 6 7 9 10 11 12 13 14 15; do ((bit = -digit, bit &= digit, sum)); done
    digit="${place}[Y$((place / 16)) >> $((60 - 4 * (place % 16))) & 15]"
    HIGH="$HIGH ^ GH$digit" LOW="$LOW ^ GL$digit"
  done
  [ ! -d "${file%/*}" ] || {
    printf '%s\n' "$HIGH" "$LOW"
    for one in GH{0..31}; do
      one="${one}[*]" two="GL${one#GH}"
      printf '%s\n' "${!one}" "${!two}"
    done
  } 2>/dev/null >"$file" || :
}

# The tag over AAD and the ciphertext in FILE, which stands there behind 16 bytes: E(K, J0), or as many zeros.
gcm_tag() { # H AAD FILE [E(K, J0)] -> TAG
  local a b c d e f g h i j k l m n o p block mask=${4:-} bytes=0 lines=$(((${#2} + 15) / 16)) Y0=0 Y1=0 Z
  ghash_tables "$1"
  printf %s%b "$2" "${ZEROS:0:2*(16 * lines - ${#2})}" >"$TMP/aad" || disk_full
  while read -r a b c d e f g h i j k l m n o p; do
    block=$a$b$c$d$e$f$g$h$i$j$k$l$m$n$o$p
    case $((lines--)) in
      0) mask=${mask:-$block} && continue ;;
      -*) ((bytes += ${#block} / 2)) ;;
    esac
    [ ${#block} -eq 32 ] || block=${block}000000000000000000000000000000
    ((Y0 ^= 0x${block:0:16}, Y1 ^= 0x${block:16:16}, Z = HIGH, Y1 = LOW, Y0 = Z))
  done < <(od -An -v -tx1 "$TMP/aad" "$3")
  ((Y0 ^= 8 * ${#2}, Y1 ^= 8 * bytes, Z = HIGH, Y1 = LOW, Y0 = Z))
  printf -v TAG '%016x%016x' $((Y0 ^ 0x${mask:0:16})) $((Y1 ^ 0x${mask:16:16}))
}

seal() { # PASS H AAD FILE -> NONCE, TAG, and the ciphertext behind 16 bytes in $TMP/sealed
  NONCE=$(random_hex 12)
  { zeros && cat "$4"; } | ctr "$1" "${NONCE}00000001" >"$TMP/sealed" && gcm_tag "$2" "$3" "$TMP/sealed"
}

sealed() { tail -c +17 "$TMP/sealed" | openssl base64 -A; }

unseal() { # PASS H AAD NONCE CIPHERTEXT TAG -> $TMP/frame, only when the tag was right; else WHY
  WHY=bad-nonce && is_hex "$4" 24 || return 1
  WHY=malformed-tag && is_hex "$6" 32 || return 1
  WHY=bad-base64 && is_base64 "$5" || return 1
  { zeros && printf %s "$5" | openssl base64 -A -d; } >"$TMP/cipher" || disk_full
  ctr "$1" "${4}00000001" <"$TMP/cipher" >"$TMP/plain" || disk_full
  gcm_tag "$2" "$3" "$TMP/cipher" "$(hex -N16 "$TMP/plain")"
  WHY=bad-tag && [ "$TAG" = "$6" ] || return 1
  tail -c +17 "$TMP/plain" >"$TMP/frame" || disk_full
}

# P-256 keys travel as base64 SPKI of one fixed shape (RFC 5480: id-ecPublicKey, prime256v1, an uncompressed point).
is_public_key() { [ ${#1} -eq 124 ] && [ "${1:0:36}" = MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE ] && is_base64 "$1"; }

write_pem() { printf '%s\n' '-----BEGIN PUBLIC KEY-----' "${1:0:64}" "${1:64}" '-----END PUBLIC KEY-----' >"$2" || disk_full; }

new_key() { # FILE -> PUBLIC
  openssl ecparam -name prime256v1 -genkey -noout -out "$1" 2>/dev/null
  PUBLIC=$(openssl pkey -in "$1" -pubout 2>/dev/null | sed '/^-/d' | tr -d '\n')
  is_public_key "$PUBLIC"
}

shared_x() { # PRIVATE_FILE PUBLIC -> 64 hex (SEC 1, 3.3.1)
  write_pem "$2" "$TMP/pem" && openssl pkeyutl -derive -inkey "$1" -peerkey "$TMP/pem" 2>/dev/null | hex
}

sign() { openssl dgst -sha256 -sign "$1" | openssl base64 -A; } # PRIVATE_FILE; stdin

verify() { # PUBLIC SIGNATURE; stdin is what was signed
  is_base64 "$2" && [ ${#2} -le 96 ] || return 1
  write_pem "$1" "$TMP/pem"
  printf %s "$2" | openssl base64 -A -d >"$TMP/signature" || disk_full
  openssl dgst -sha256 -verify "$TMP/pem" -signature "$TMP/signature" >/dev/null 2>&1
}
