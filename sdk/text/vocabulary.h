// SPDX-License-Identifier: Apache-2.0
/* A vocabulary out of GGUF metadata: the bytes of every id, maps from texts to ids, merges or scores. */
#ifndef OTR_TEXT_VOCABULARY_H
#define OTR_TEXT_VOCABULARY_H

#include "map.h"
#include "split.h"

typedef enum otr_token_type { /* as GGUF numbers them */
                              OTR_TOKEN_NORMAL = 1,
                              OTR_TOKEN_UNKNOWN = 2,
                              OTR_TOKEN_CONTROL = 3,
                              OTR_TOKEN_USER = 4,
                              OTR_TOKEN_UNUSED = 5,
                              OTR_TOKEN_BYTE = 6
} otr_token_type;

/** Where SentencePiece's space goes before plain text. */
typedef enum otr_space_prefix {
  OTR_PREFIX_NEVER,
  OTR_PREFIX_AFTER_CONTROL, /**< before the text and behind control tokens */
  OTR_PREFIX_EACH,          /**< before each stretch of plain text */
  OTR_PREFIX_EACH_UNSPACED, /**< before each that does not begin with a space */
  OTR_PREFIX_FIRST_UNSPACED /**< at the beginning of the text, unless there is a space */
} otr_space_prefix;

enum { OTR_STRIP_LEFT = 1, OTR_STRIP_RIGHT = 2 };

/** Texts that are found in the input by longest match: a tree of bytes. */
typedef struct otr_trie {
  otr_pair_map edges; /**< (node, byte) → node */
  int32_t *ids;       /**< [capacity] the token that ends at a node, −1 for none; node 0 is the root */
  size_t n_nodes, capacity;
  bool first[256]; /**< some text begins with this byte */
} otr_trie;

typedef struct otr_vocabulary {
  otr_allocator allocator;
  bool is_spm; /**< model "llama": SentencePiece with scores; else "gpt2": byte-level with merges */
  otr_split_kind split;
  const char *pre;    /**< name of the pre-tokenizer, "" for SPM */
  bool whole_pieces;  /**< a piece that is a token is taken without merging (llama-bpe) */
  bool cut_at_spaces; /**< SPM: no token goes on behind a space that follows something else */
  bool cut_at_each;   /**< SPM: a space always begins a piece */
  bool fuse_unknown;  /**< SPM: unknown characters side by side give one id */
  bool nfc;           /**< plain text is normalized first */
  int32_t n;
  otr_texts texts;       /**< [n] the bytes that an id stands for */
  size_t texts_bytes;    /**< taken for texts.bytes */
  uint8_t *types;        /**< [n] otr_token_type */
  uint8_t *ends;         /**< [n] 1: end of generation */
  uint8_t *strips;       /**< [n] OTR_STRIP_…: white space that a special token swallows */
  uint32_t *keys;        /**< SPM [n]: order of merging, from the score: the highest score has the lowest. NULL: by
                              merges, as GPT-2 */
  otr_text_map map;      /**< tokens that plain text may become */
  otr_trie special;      /**< control tokens and others that only exist as a whole */
  otr_trie user;         /**< user-defined tokens: found in plain text, too */
  int32_t byte_ids[256]; /**< the token of a single byte, −1 for none */
  otr_pair_map merges;   /**< (left id, right id) → rank */
  int32_t *merged;       /**< [n_merges] id that a merge makes, by rank */
  size_t n_merges;
  size_t longest; /**< bytes of the longest token */
  int32_t bos, eos, eot, unk, pad;
  bool add_bos, add_eos;
  otr_space_prefix prefix;
} otr_vocabulary;

/** Fills a zeroed vocabulary whose allocator is set. On failure the caller destroys it all the same. */
otr_status otr_vocabulary_load(otr_vocabulary *v, const otr_metadata *metadata);
void otr_vocabulary_destroy(otr_vocabulary *v);

/** Merges of a byte-level vocabulary whose texts and maps are there. */
otr_status otr_vocabulary_load_merges(otr_vocabulary *v, const otr_metadata *metadata);
/** Keys of the special tokens and flags; the names of known tokens that end a generation. */
otr_status otr_vocabulary_load_special(otr_vocabulary *v, const otr_metadata *metadata);
/** Keys tokenizer.outrider.…: what GGUF has no keys for. After the special ones. */
otr_status otr_vocabulary_load_own(otr_vocabulary *v, const otr_metadata *metadata);
/** A string key; *n_bytes 0 and *text "" when it is missing. */
otr_status otr_vocabulary_find_string(const otr_metadata *metadata, const char *key, const char **text,
                                      size_t *n_bytes);
/** A bool key; `missing` where there is none. */
otr_status otr_vocabulary_find_flag(const otr_metadata *metadata, const char *key, bool missing, bool *flag);
/** Undoes the byte-level alphabet: each letter that stands for a byte becomes it, anything else stays.
 *  @param out [n_bytes]; may be `text`. @return bytes written. */
size_t otr_bytes_of_letters(char *out, const char *text, size_t n_bytes);
/** Writes a text with SentencePiece's space, U+2581, as a space.
 *  @param out [n_bytes]. @return bytes written. */
size_t otr_spaces_of_spm(char *out, const char *text, size_t n_bytes);

/** A trie for texts of at most n_bytes in all. */
otr_status otr_trie_create(otr_trie *trie, const otr_allocator *allocator, size_t n_bytes);
void otr_trie_destroy(otr_trie *trie, const otr_allocator *allocator);
void otr_trie_add(otr_trie *trie, const char *text, size_t n_bytes, int32_t id);
/** The longest text of the trie at the beginning of text [n_bytes]: its id and length; −1 for none. */
int32_t otr_trie_match(const otr_trie *trie, const char *text, size_t n_bytes, size_t *length);

#endif
