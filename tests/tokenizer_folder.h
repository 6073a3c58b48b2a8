// SPDX-License-Identifier: Apache-2.0
/* For tests of the tokenizer import: a temporary Hugging Face directory, and a tokenizer made of one. */
#ifndef TOKENIZER_FOLDER_H
#define TOKENIZER_FOLDER_H

#include "outrider/text.h"

/** Makes an empty directory. @return its path, kept until the next call */
const char *folder_make(void);
/** Writes a file of the directory; text NULL removes it. */
void folder_write(const char *name, const void *text, size_t n_bytes);
/** Removes the directory with all of its files. */
void folder_remove(void);

/** Imports a directory's tokenizer by way of a GGUF file.
 *  @param[out] out metadata of that file, NULL on failure; otr_metadata_close
 *  @return what import_tokenizer did */
otr_status folder_import(const char *directory, int32_t vocab, int *found, otr_metadata **out);
/** The same as a tokenizer; fails the test on any failure. */
otr_tokenizer *folder_tokenizer(const char *directory, int32_t vocab);

#endif
