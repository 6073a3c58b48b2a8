// SPDX-License-Identifier: Apache-2.0
/** @file
 * outrider: LLM.int8() inference (Dettmers, Lewis, Belkada, Zettlemoyer 2022, arXiv 2208.07339) on devices.
 *
 * One rule makes this library different: a model gives the same bits on every backend, driver, CPU, thread count and
 * prompt split (docs/contract.md). What was tested on one machine is what runs on another.
 *
 * ## In short
 *     otr_runtime *rt;  otr_model *model;  otr_session *s;
 *     otr_runtime_create(NULL, &rt);                        // the fastest device that passes its self-check
 *     otr_model_open_file(rt, "model.gguf", NULL, &model);  // mapped: milliseconds
 *     otr_session_create(model, NULL, &s);                  // the last allocation
 *     otr_session_eval(s, ids, n, NULL);
 *     const float *logits = otr_session_logits(s);          // [vocab], of the last id
 * Text (tokenizer, sampler, chat templates, generate) is in <outrider/text.h>, a library of its own.
 *
 * ## Rules that hold everywhere
 * - Fallible functions return otr_status. On failure out-pointers are NULL, nothing is leaked, and otr_error_detail()
 *   gives the calling thread one line that names what is wrong.
 * - Parameter structs begin with struct_size: set it to sizeof (or use the OTR_..._INIT macros). Zero in any other
 *   field means its default. A NULL params pointer means all defaults.
 * - Handles are opaque. close/destroy take NULL. A handle must outlive the handles made from it: runtime, model,
 *   session. Destroying one that is still used is refused where it can be seen (see each function).
 * - Nothing here aborts, exits, prints, or changes the process (locale, signals, floating-point mode of the caller).
 * - "n" counts, "_bytes" sizes. Matrices are row-major; a shape such as [n, vocab] stands beside each pointer.
 *
 * ## Threads
 * A runtime, a model and metadata are safe from any thread. A session or a linear is used by one thread at a time,
 * except otr_session_cancel, which any thread may call. Evals on one runtime run one after another (others wait in
 * turn): one eval uses all its threads.
 *
 * ## After a failure of an eval
 * | status            | position of each session            | goes on?                                                |
 * |-------------------|-------------------------------------|---------------------------------------------------------|
 * | INVALID_ARGUMENT  | unchanged                           | yes                                                     |
 * | CONTEXT_FULL      | unchanged: nothing was evaluated    | yes, after truncate, slide or reset                     |
 * | CANCELLED         | end of the last whole piece         | yes: eval the rest                                      |
 * | NONFINITE         | end of the last whole piece         | yes, but the model or the input is broken: see detail   |
 * | DEVICE_LOST       | end of the last whole piece         | no: destroy session, model and runtime                  |
 * A piece is at most otr_session_params.n_batch rows. Logits are those of the last whole piece only after OK.
 */
#ifndef OUTRIDER_OUTRIDER_H
#define OUTRIDER_OUTRIDER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef OTR_API
#if defined(__GNUC__)
#define OTR_API __attribute__((visibility("default")))
#else
#define OTR_API
#endif
#endif

#define OTR_VERSION_MAJOR 0
#define OTR_VERSION_MINOR 1
#define OTR_VERSION_PATCH 0

/* ---- version, status ------------------------------------------------------------------------------------------ */

/** What the linked library is. `contract` is the revision of the numerical contract: bits are promised per revision. */
typedef struct otr_version_info {
  int32_t major, minor, patch;
  int32_t contract;
} otr_version_info;

/** @return version of the library that is linked. @threads Any. */
OTR_API otr_version_info otr_version(void);

/** Result of every fallible function. New values may be added at the end. */
typedef int32_t otr_status;
enum {
  OTR_STATUS_OK = 0,
  OTR_STATUS_INVALID_ARGUMENT = 1, /**< a NULL, a count or an id that cannot be */
  OTR_STATUS_NO_MEMORY = 2,        /**< host or device memory */
  OTR_STATUS_IO = 3,               /**< open, read or map failed */
  OTR_STATUS_BAD_FORMAT = 4,       /**< a file or blob is malformed */
  OTR_STATUS_UNSUPPORTED = 5,      /**< well-formed, but a type, an architecture or a feature this version lacks */
  OTR_STATUS_NO_DEVICE = 6,        /**< the device named is missing, refused or failed its self-check */
  OTR_STATUS_DEVICE_LOST = 7,      /**< the device stopped working */
  OTR_STATUS_CANCELLED = 8,        /**< by otr_session_cancel or a progress callback */
  OTR_STATUS_CONTEXT_FULL = 9,     /**< the rows do not fit in what is left of the context */
  OTR_STATUS_NONFINITE = 10,       /**< a value of 2^48 or more, Inf or NaN arose; the detail names the layer */
  OTR_STATUS_MISMATCH = 11,        /**< verify: the hash differs; state: made by another model or contract */
  OTR_STATUS_BUFFER_TOO_SMALL = 12,/**< the size needed was stored */
  OTR_STATUS_BUSY = 13,            /**< a handle is still in use, or a callback called back in */
  OTR_STATUS_INTERNAL = 14         /**< a thread or lock could not be made, or a fault of this library */
};

/** @return a constant English name of the status, never NULL. @threads Any. */
OTR_API const char *otr_status_text(otr_status status);

/** @return what went wrong in the calling thread's last failed call: one line, never NULL, "" when none has failed.
 *  Valid until the thread's next failing call. @threads Any; each thread has its own. */
OTR_API const char *otr_error_detail(void);

/* ---- what the caller may supply -------------------------------------------------------------------------------- */

/** The caller's memory. Both functions may be called from any thread. */
typedef struct otr_allocator {
  void *user;
  /** @return `bytes` (> 0) aligned to `alignment` (a power of two, at most 4096), or NULL. */
  void *(*allocate)(void *user, size_t bytes, size_t alignment);
  /** Releases what allocate returned, with the same `bytes`. `memory` is never NULL. */
  void (*release)(void *user, void *memory, size_t bytes);
} otr_allocator;

typedef int32_t otr_log_level;
enum { OTR_LOG_ERROR = 0, OTR_LOG_WARNING = 1, OTR_LOG_INFO = 2, OTR_LOG_DEBUG = 3 };

/** Receives one line without a newline. May be called from any thread; must not call back into the library. */
typedef void (*otr_log_fn)(void *user, otr_log_level level, const char *message);

/** Runs task(context, i, worker) for every i in [0, n), in any order, at once or one by one, and returns when all are
 *  done. `worker` tells tasks that run at the same time apart: two such tasks never have the same, and it lies in
 *  [0, n_threads) of otr_runtime_params. The results do not depend on how the work is shared out. It must not call back
 *  into the library for the same runtime: on the thread it was called on, evals and linears answer BUSY. */
typedef void (*otr_parallel_for_fn)(void *user, int32_t n, void (*task)(void *context, int32_t i, int32_t worker),
                                    void *context);

/** Called now and then with done <= total (bytes). @return 0 to go on; anything else cancels (CANCELLED). */
typedef int32_t (*otr_progress_fn)(void *user, uint64_t done, uint64_t total);

/* ---- devices and runtime --------------------------------------------------------------------------------------- */

typedef int32_t otr_check_state;
enum {
  OTR_CHECK_PASSED = 0,     /**< every operation gave the reference's bits */
  OTR_CHECK_SKIPPED = 1,    /**< the caller asked for no self-check */
  OTR_CHECK_FAILED = 2,     /**< some operation gave other bits: `reason` names it; the device is refused */
  OTR_CHECK_UNAVAILABLE = 3,/**< the device or what it needs is missing: `reason` says what */
  OTR_CHECK_DEMOTED = 4     /**< passed, without a fast variant that gave other bits: `reason` names it */
};

/** A device that this build knows of, found or not. */
typedef struct otr_device_info {
  uint32_t struct_size;
  char name[64];        /**< as otr_runtime_params.device takes it: "cpu", "x86:avx512vnni", "vulkan:0" */
  char backend[16];     /**< "cpu", "x86", "neon", "vulkan", "cuda" */
  char description[128];/**< the hardware's own name */
  char isa[64];         /**< instruction set or API the kernels use */
  char reason[192];     /**< why it is not available, was refused or demoted; "" otherwise */
  int32_t available;    /**< 1: can be opened */
  int32_t native_int8;  /**< 1: 8-bit loads and stores in hardware */
  int32_t native_f16;   /**< 1: f16 conversion or arithmetic in hardware */
  int32_t native_dot;   /**< 1: integer dot products of 4 x 8 bits in one instruction */
  otr_check_state check;
  double check_seconds; /**< time of the self-check's fixed work: the fastest wins under "auto" */
  uint64_t memory_bytes;/**< memory the device can use, 0 when unknown */
} otr_device_info;

/** Lists every device of every backend in this build, the missing ones with their reason.
 *  @param infos     [capacity], each with struct_size set by the caller in element 0 (all have that size); NULL to count
 *  @param[out] n    number of devices there are
 *  @param self_check 1: also run each self-check (under a second in all)
 *  @return OK, or BUFFER_TOO_SMALL (the first `capacity` are filled). @threads Any. */
OTR_API otr_status otr_devices(otr_device_info *infos, int32_t capacity, int32_t *n, int32_t self_check);

typedef struct otr_runtime otr_runtime;

typedef struct otr_runtime_params {
  uint32_t struct_size;
  /** NULL or "auto": the device whose self-check is fastest (all give the same bits); else a name of otr_devices, a
   *  backend's name for its best device ("x86"), or backend and a part of the hardware's own name ("vulkan:radeon",
   *  case ignored). A named one that is missing is an error, never replaced. */
  const char *device;
  int32_t n_threads;       /**< 0: one for each core that the process may run on, of Arm's big and little ones each big one */
  int32_t skip_self_check; /**< 1: trust the device; "auto" then takes the first available in the built-in order */
  otr_allocator allocator; /**< all zero: malloc and free */
  otr_log_fn log;          /**< NULL: silent */
  void *log_user;
  otr_parallel_for_fn parallel_for; /**< NULL: the runtime's own thread pool; n_threads must be given otherwise */
  void *parallel_for_user;
  int32_t max_submit_ms;   /**< GPUs: long passes are cut so that none keeps the GPU from others for longer, about;
                                0: 50; -1: they are not cut */
  int32_t low_priority;    /**< GPUs: 1: behind the app's own work, where the driver has priorities */
  const void *pipeline_cache; /**< what otr_runtime_pipeline_cache gave another time, or NULL; read only during create.
                                   One of another device, driver or build, or a damaged one, is not used */
  size_t pipeline_cache_bytes;
} otr_runtime_params;
#define OTR_RUNTIME_PARAMS_INIT \
  { sizeof(otr_runtime_params), NULL, 0, 0, { NULL, NULL, NULL }, NULL, NULL, NULL, NULL, 0, 0, NULL, 0 }

/** Creates a runtime: a device, its threads, an allocator.
 *  @param params NULL for defaults; copied
 *  @param[out] out owned by the caller on OK (otr_runtime_destroy); NULL otherwise
 *  @return OK, INVALID_ARGUMENT, NO_DEVICE (missing or refused: the detail says why), NO_MEMORY, INTERNAL.
 *  @threads Any. */
OTR_API otr_status otr_runtime_create(const otr_runtime_params *params, otr_runtime **out);

/** Destroys a runtime; NULL is allowed. @return OK, or BUSY (models or linears of it are open: nothing happened).
 *  @threads Any, when no other call uses it. */
OTR_API otr_status otr_runtime_destroy(otr_runtime *runtime);

/** Describes the device in use. @param[out] info struct_size set by the caller. @return OK or INVALID_ARGUMENT.
 *  @threads Any. */
OTR_API otr_status otr_runtime_device(const otr_runtime *runtime, otr_device_info *info);

/** @return threads the runtime computes with. @threads Any. */
OTR_API int32_t otr_runtime_threads(const otr_runtime *runtime);

/** Writes what a later otr_runtime_create on this machine needs not make again: a GPU's compiled pipelines and the
 *  self-check's verdict. Best called when a model has been used.
 *  @param blob [*bytes], or NULL to learn the size @param[in,out] bytes room in `blob`; then the size (0: the device
 *  has none)
 *  @return OK, BUFFER_TOO_SMALL (*bytes is the size needed), INVALID_ARGUMENT, or what the device fails with.
 *  @threads Any. */
OTR_API otr_status otr_runtime_pipeline_cache(otr_runtime *runtime, void *blob, size_t *bytes);

/** Host memory that the library holds for this runtime through its allocator now and at most, in bytes. NULLs allowed.
 *  @threads Any. */
OTR_API void otr_runtime_memory(const otr_runtime *runtime, uint64_t *now_bytes, uint64_t *peak_bytes);

/* ---- models ---------------------------------------------------------------------------------------------------- */

/** The outlier rule of LLM.int8() (the paper, section 3.2; contract, section 2). */
typedef int32_t otr_outlier_rule;
enum {
  OTR_OUTLIERS_DEFAULT = 0,  /**< what the file says; relative 4 for a model that is quantized while it opens */
  OTR_OUTLIERS_RELATIVE = 1, /**< |x| >= value x the row's root mean square; value 0: 4; at least 2^-8 */
  OTR_OUTLIERS_ABSOLUTE = 2, /**< |x| >= value; value 0: 6.0, the paper's */
  OTR_OUTLIERS_OFF = 3       /**< no decomposition */
};
typedef struct otr_outliers {
  otr_outlier_rule rule;
  float value;
} otr_outliers;

/** Bytes of a file, wherever they are. read must be safe from several threads at once. */
typedef struct otr_reader {
  void *user;
  uint64_t bytes; /**< size of the file */
  /** Reads exactly `n_bytes` at `offset` (inside the file). @return 0 on success. */
  int32_t (*read)(void *user, uint64_t offset, void *destination, size_t n_bytes);
} otr_reader;

typedef int32_t otr_source_kind;
enum {
  OTR_SOURCE_PATH = 0,   /**< `path`, mapped read-only. A file that is truncated while mapped is SIGBUS to the app:
                              copy_weights is the way round where that can happen */
  OTR_SOURCE_MEMORY = 1, /**< `memory`, used in place: stays valid and unchanged until the model is closed */
  OTR_SOURCE_FD = 2,     /**< `fd` from `fd_offset`, `fd_bytes` long (0: to its end), mapped; dup'ed, the caller keeps
                              its own. The form of assets inside an APK */
  OTR_SOURCE_READER = 3  /**< `reader`, used only while opening: weights are copied */
};
/** Where a model is. Only the fields of its kind are read. */
typedef struct otr_source {
  otr_source_kind kind;
  const char *path;
  const void *memory;
  uint64_t memory_bytes;
  int32_t fd;
  uint64_t fd_offset, fd_bytes;
  otr_reader reader;
} otr_source;

/** Where a device that shares its memory with the CPU (integrated GPUs, Jetson) reads a file's weights; a discrete GPU
 *  copies, a CPU reads in place under all but COPIED. otr_model_plan says what comes of it. */
typedef int32_t otr_weights;
enum {
  OTR_WEIGHTS_AUTO = 0,   /**< in place where the device can, else copied */
  OTR_WEIGHTS_MAPPED = 1, /**< in place; UNSUPPORTED where the device cannot */
  OTR_WEIGHTS_COPIED = 2, /**< copied to the device's own memory */
  OTR_WEIGHTS_BOTH = 3    /**< in place, and a copy where prompts are read faster from it: twice the memory */
};

typedef struct otr_model_params {
  uint32_t struct_size;
  otr_outliers outliers;    /**< overrides the file's rule for every linear */
  int32_t copy_weights;     /**< 1: read into memory instead of mapping */
  int32_t f16_columns_all;  /**< quantizing while opening: 1 keeps every column of every linear as f16, too */
  const char *const *keep_f16; /**< quantizing while opening: globs (* and ?) of GGUF names kept as f16 linears */
  int32_t n_keep_f16;
  otr_progress_fn progress; /**< called on the opening thread */
  void *progress_user;
  otr_weights weights;
} otr_model_params;
#define OTR_MODEL_PARAMS_INIT { sizeof(otr_model_params), { 0, 0.0f }, 0, 0, NULL, 0, NULL, NULL, 0 }

typedef struct otr_session_params {
  uint32_t struct_size;
  int32_t n_ctx;       /**< positions it can hold; 0: the model's own context, at most 4096. Rounded up to 256 */
  int32_t n_batch;     /**< most rows a pass takes (longer inputs are cut into passes); 0: 512 */
  int32_t keep_hidden; /**< 1: keep the hidden states of each pass for otr_session_hidden */
} otr_session_params;
#define OTR_SESSION_PARAMS_INIT { sizeof(otr_session_params), 0, 0, 0 }

typedef struct otr_model otr_model;
typedef struct otr_session otr_session;

/** Bytes that a model and one session of it take. */
typedef struct otr_plan_info {
  uint32_t struct_size;
  uint64_t file_bytes;           /**< size of the source */
  uint64_t weights_mapped_bytes; /**< used in place: shared with the page cache and other processes */
  uint64_t weights_host_bytes;   /**< copied or quantized into memory (a row the kernels cannot take in place) */
  uint64_t weights_device_bytes; /**< on the device, 0 for CPUs */
  uint64_t kv_host_bytes, kv_device_bytes;           /**< of one session */
  uint64_t scratch_host_bytes, scratch_device_bytes; /**< of one session */
  int32_t n_ctx, n_batch;        /**< as they would be set */
  int32_t quantizes;             /**< 1: the file is not in the SDK's format; opening quantizes it */
} otr_plan_info;

/** Says what opening would take, without opening: only the header is read.
 *  @param model_params, session_params NULL for defaults
 *  @param[out] plan struct_size set by the caller
 *  @return OK, INVALID_ARGUMENT, IO, BAD_FORMAT, UNSUPPORTED, NO_MEMORY. @threads Any. */
OTR_API otr_status otr_model_plan(otr_runtime *runtime, const otr_source *source, const otr_model_params *model_params,
                                  const otr_session_params *session_params, otr_plan_info *plan);

/** Opens a model: a GGUF file (docs/format.md). The SDK's own are mapped and used in place, nothing is scanned, so that
 *  opening takes milliseconds and processes share one copy; others are quantized to LLM.int8() while opening.
 *  @param params NULL for defaults; copied
 *  @param[out] out owned by the caller on OK (otr_model_close); NULL otherwise
 *  @return OK, INVALID_ARGUMENT, IO, BAD_FORMAT (malformed), UNSUPPORTED (type or architecture), NO_MEMORY, CANCELLED.
 *  @threads Any. An open model is immutable; any number of sessions may share it. */
OTR_API otr_status otr_model_open(otr_runtime *runtime, const otr_source *source, const otr_model_params *params,
                                  otr_model **out);

/** otr_model_open of a path (OTR_SOURCE_PATH), with the same results. @threads Any. */
OTR_API otr_status otr_model_open_file(otr_runtime *runtime, const char *path, const otr_model_params *params,
                                       otr_model **out);

/** Closes a model; NULL is allowed. @return OK, or BUSY (sessions of it exist: nothing happened). @threads Any. */
OTR_API otr_status otr_model_close(otr_model *model);

/** What a model is. Strings live as long as the model. */
typedef struct otr_model_info {
  uint32_t struct_size;
  const char *architecture; /**< "llama" */
  const char *name;         /**< general.name, "" when absent */
  int32_t n_layers, dim, ffn_dim, n_heads, n_kv_heads, head_dim, vocab;
  int32_t n_ctx_train;      /**< positions the model was trained for */
  int32_t tied_head;        /**< 1: the output layer is the token embedding */
  otr_outliers outliers;    /**< the rule in force */
  int32_t converted;        /**< 1: the SDK's own file */
  uint64_t n_parameters;
  uint64_t token_weight_bytes; /**< weight bytes read for one decoded token, all of the layers and the head */
  uint64_t token_layer_macs;   /**< multiply-adds of the layers' linears for one token */
  int32_t window;              /**< positions that a row attends to, its own one too; 0: all up to its own */
} otr_model_info;
/** @param[out] info struct_size set by the caller. @return OK or INVALID_ARGUMENT. @threads Any. */
OTR_API otr_status otr_model_get_info(const otr_model *model, otr_model_info *info);

/** A tensor of the file. */
typedef struct otr_tensor_info {
  uint32_t struct_size;
  const char *name; /**< lives as long as the model */
  const char *type; /**< "I8", "F32", "Q4_1" */
  int32_t n_dims;
  uint64_t dims[4]; /**< as the file has them: the first is the contiguous one */
  uint64_t bytes, offset; /**< in the file */
} otr_tensor_info;
/** @return number of tensors in the file. @threads Any. */
OTR_API int32_t otr_model_n_tensors(const otr_model *model);
/** @param index 0 … n_tensors − 1. @param[out] info struct_size set by the caller. @return OK or INVALID_ARGUMENT.
 *  @threads Any. */
OTR_API otr_status otr_model_tensor(const otr_model *model, int32_t index, otr_tensor_info *info);

/* ---- metadata of a GGUF file, with or without a model ------------------------------------------------------------ */

typedef struct otr_metadata otr_metadata;

/** GGUF's value types, by their numbers in the format. */
typedef int32_t otr_metadata_type;
enum {
  OTR_METADATA_U8 = 0, OTR_METADATA_I8 = 1, OTR_METADATA_U16 = 2, OTR_METADATA_I16 = 3, OTR_METADATA_U32 = 4,
  OTR_METADATA_I32 = 5, OTR_METADATA_F32 = 6, OTR_METADATA_BOOL = 7, OTR_METADATA_STRING = 8, OTR_METADATA_ARRAY = 9,
  OTR_METADATA_U64 = 10, OTR_METADATA_I64 = 11, OTR_METADATA_F64 = 12
};

/** One key and its value. Pointers live as long as the otr_metadata and are not 0-terminated. Already checked: `data`
 *  holds `count` well-formed elements. */
typedef struct otr_metadata_value {
  const char *key;
  size_t key_bytes;
  otr_metadata_type type;         /**< of the value; of the elements for an array */
  int32_t is_array;
  uint64_t count;                 /**< elements; 1 for a scalar */
  const void *data;               /**< little-endian elements, possibly unaligned; strings: u64 length, then bytes, each */
  size_t bytes;                   /**< of data */
} otr_metadata_value;

/** Reads the header of a GGUF file: keys and tensor list, no weights.
 *  @param[out] out owned by the caller on OK (otr_metadata_close); NULL otherwise
 *  @return OK, INVALID_ARGUMENT, IO, BAD_FORMAT, UNSUPPORTED (version), NO_MEMORY. @threads Any. */
OTR_API otr_status otr_metadata_open(const otr_source *source, otr_metadata **out);
/** NULL is allowed. */
OTR_API void otr_metadata_close(otr_metadata *metadata);
/** @return an open model's metadata, owned by the model. */
OTR_API const otr_metadata *otr_model_metadata(const otr_model *model);
/** @return number of keys. @threads Any. */
OTR_API int32_t otr_metadata_count(const otr_metadata *metadata);
/** Key `index` in the file's order. @return 1, or 0 when there is none. */
OTR_API int32_t otr_metadata_at(const otr_metadata *metadata, int32_t index, otr_metadata_value *value);
/** The key with this name. @return 1, or 0 when there is none (value is then zeroed). */
OTR_API int32_t otr_metadata_find(const otr_metadata *metadata, const char *key, otr_metadata_value *value);
/** Element `index` of an integer or bool value as int64. @return 1, or 0: another type, out of range. */
OTR_API int32_t otr_metadata_int(const otr_metadata_value *value, uint64_t index, int64_t *out);
/** Element `index` of a float or integer value as double. @return 1, or 0. */
OTR_API int32_t otr_metadata_number(const otr_metadata_value *value, uint64_t index, double *out);
/** Walks the strings of a value: start with *cursor = 0. @return 1 and the next string, or 0 at the end or for another
 *  type. */
OTR_API int32_t otr_metadata_next_string(const otr_metadata_value *value, size_t *cursor, const char **string,
                                         size_t *bytes);

/* ---- verify ----------------------------------------------------------------------------------------------------- */

/** The logits hash of a model (contract, section 3): SHA-256 over the f32 little-endian logits of a fixed id sequence.
 *  @param[out] expected what the file carries, 64 hex digits and 0; "" when it carries none
 *  @param[out] actual   what this device gives
 *  @return OK (same), MISMATCH, UNSUPPORTED (the file carries none; `actual` is set), and the errors of an eval.
 *  @threads Any; creates and destroys a session. */
OTR_API otr_status otr_model_verify(otr_model *model, char expected[65], char actual[65]);

/* ---- sessions -------------------------------------------------------------------------------------------------- */

/** Creates a session: a context, its KV pages (of 256 positions) and scratch. Nothing is allocated after that.
 *  @param[out] out owned by the caller on OK (otr_session_destroy); NULL otherwise
 *  @return OK, INVALID_ARGUMENT, NO_MEMORY. @threads Any. */
OTR_API otr_status otr_session_create(otr_model *model, const otr_session_params *params, otr_session **out);
/** Destroys a session; NULL is allowed. Not while another thread is in a call on it. @threads See top. */
OTR_API void otr_session_destroy(otr_session *session);

/** Appends `n` tokens at the session's position. Any n >= 1; long inputs are cut into passes of n_batch rows, which
 *  changes no bit. Logits of the last token are then in otr_session_logits.
 *  @param tokens [n], each in [0, vocab)
 *  @param logits_all NULL, or [n, vocab]: receives the logits of all n
 *  @return OK, or see "After a failure of an eval". @threads One thread a session. */
OTR_API otr_status otr_session_eval(otr_session *session, const int32_t *tokens, int32_t n, float *logits_all);

/** The same for `n` rows that an app's own encoder made (vision, audio): they stand where the embedding's rows would,
 *  after its constant and position row; where the embedding is normed, before that. Models that project their embedding
 *  take none: UNSUPPORTED.
 *  @param rows [n, dim], finite. @return else as otr_session_eval. @threads One thread a session. */
OTR_API otr_status otr_session_eval_embeddings(otr_session *session, const float *rows, int32_t n, float *logits_all);

/** One session's part of a joint pass. Exactly one of tokens and rows is set. */
typedef struct otr_eval_item {
  otr_session *session;  /**< each session at most once */
  const int32_t *tokens; /**< [n] or NULL */
  const float *rows;     /**< [n, dim] or NULL */
  int32_t n;
  float *logits_all;     /**< NULL or [n, vocab] */
} otr_eval_item;
/** Evaluates several sessions of one model together: one pass over the weights. Each gets the bits it would get alone.
 *  Uses the scratch of the session with the largest context (the first of equals): a pass takes at most its n_batch
 *  rows, and there are at most 64 sessions and no more than that n_batch. Cancelling any of them cancels the call.
 *  @return as otr_session_eval. @threads The caller owns all these sessions during the call. */
OTR_API otr_status otr_eval_together(const otr_eval_item *items, int32_t n_items);

/** @return [vocab] logits of the last evaluated row, owned by the session, valid until its next eval, truncate, load, copy
 *  or reset; NULL when there are none. */
OTR_API const float *otr_session_logits(const otr_session *session);

/** @return number of logits a row has: the model's vocabulary. 0 for NULL. */
OTR_API int32_t otr_session_vocab(const otr_session *session);

/** Hidden states of the last pass (sessions made with keep_hidden): [n_layers + 1, n_rows, dim]: the input of each block
 *  and, last, what the output layer reads (after the final norm). Owned by the session, valid as the logits are.
 *  @param[out] n_rows rows of that pass. @return NULL when there are none. */
OTR_API const float *otr_session_hidden(const otr_session *session, int32_t *n_rows);

/** @return the number of positions evaluated so far: the next row's position. */
OTR_API int32_t otr_session_position(const otr_session *session);
/** @return positions that can still be appended. */
OTR_API int32_t otr_session_room(const otr_session *session);
/** Forgets everything from `position` on (0 <= position <= otr_session_position). Allocates nothing.
 *  @return OK, INVALID_ARGUMENT (also when `position` lies inside the span that slides dropped from, first to last
 *  dropped page: what would stay there has lost its past. Its two ends can be gone back to). */
OTR_API otr_status otr_session_truncate(otr_session *session, int32_t position);
/** Forgets everything: truncate to 0, statistics and a pending cancel too. */
OTR_API void otr_session_reset(otr_session *session);
/** Makes `destination` continue where `source` is, sharing its KV pages (copied only when one of them writes into a
 *  shared page). Both of one model; copies no KV and allocates nothing.
 *  @return OK, INVALID_ARGUMENT (different models, the same session; a model whose RoPE is another in long sessions, of
 *  which one is long), CONTEXT_FULL (destination is too small). On failure nothing has changed. */
OTR_API otr_status otr_session_copy(otr_session *destination, const otr_session *source);
/** Drops the oldest whole pages of 256 positions after the first `keep` positions (rounded up to a page), so that at
 *  least `room` positions can be appended. What stays keeps its absolute positions and rotations (RoPE): distances
 *  among the rows that stay are true, the dropped ones are never attended to again, and positions go on growing, beyond
 *  n_ctx (to at most 2^20) and at some time beyond what the model was trained for. The deeper layers' rows still carry
 *  what they read from the dropped ones. Where attention has a window (otr_model_info.window), what lies behind it is
 *  never read again: a session with n_ctx >= window + n + 256 that slides with keep 0 and room n before each eval of at
 *  most n rows gives the bits of one that holds everything, in constant memory. Nothing is dropped unasked: truncate can
 *  go back, and a state be saved, only where everything is still there.
 *  @return OK, CONTEXT_FULL (not enough to drop), INVALID_ARGUMENT. @threads One thread a session. */
OTR_API otr_status otr_session_slide(otr_session *session, int32_t keep, int32_t room);

/** Asks a running eval of this session to stop at the next operation, or the next eval to not start. The eval returns
 *  CANCELLED and the request is then spent. @threads Any thread, any time while the session exists. */
OTR_API void otr_session_cancel(otr_session *session);

/** Writes the session's state (KV, token ids, position; little-endian, checksummed) in pieces to `write`, which returns
 *  0 to go on.
 *  @return OK, IO (write refused), INVALID_ARGUMENT, UNSUPPORTED (after a slide), NO_MEMORY (one page and layer of KV is
 *  taken for the call, here and in load). */
OTR_API otr_status otr_session_save(const otr_session *session,
                                    int32_t (*write)(void *user, const void *bytes, size_t n_bytes), void *user);
/** @return bytes that otr_session_save would write now. */
OTR_API uint64_t otr_session_state_bytes(const otr_session *session);
/** Replaces the session's state by a saved one. On failure the session is reset.
 *  @param blob [n_bytes]
 *  @return OK, BAD_FORMAT (truncated, checksum), MISMATCH (another model, outlier rule, contract or KV type, or
 *  a RoPE that is another in long sessions), CONTEXT_FULL, NO_MEMORY. The logits are not part of a state:
 *  otr_session_logits is NULL until the next eval. */
OTR_API otr_status otr_session_load(otr_session *session, const void *blob, size_t n_bytes);

/** What a session has done since it was created or reset. */
typedef struct otr_stats {
  uint32_t struct_size;
  uint64_t n_rows;                 /**< rows evaluated */
  uint64_t n_passes;
  double eval_seconds;             /**< inside evals */
  double first_token_seconds;      /**< the first eval's time */
  double rows_per_second;          /**< n_rows / eval_seconds */
  double last_rows_per_second;     /**< of the last eval */
  uint64_t outliers, activations;  /**< values handled in f16, of all values that linears read */
  double outlier_share;            /**< outliers / activations */
  uint64_t saturations;            /**< values clamped at f16's 65504 */
  uint64_t kv_bytes, scratch_bytes;/**< of this session */
  uint64_t peak_host_bytes;        /**< of the runtime's allocator */
  uint64_t n_submissions;          /**< GPUs: queue submissions or graph launches; one a decoded token */
  uint64_t n_dispatches;           /**< GPUs: kernels that they ran */
} otr_stats;
/** Of a joint eval the passes, what they found (outliers, activations, saturations) and took (submissions, dispatches)
 *  are counted once, at the session whose scratch was used; rows and times at each.
 *  @param[out] stats struct_size set by the caller. @return OK or INVALID_ARGUMENT. */
OTR_API otr_status otr_session_stats(const otr_session *session, otr_stats *stats);

/* ---- the operation itself -------------------------------------------------------------------------------------- */

/** One LLM.int8() linear y = x W^T + b for apps that need no model (contract, section 2; the paper, section 3). */
typedef struct otr_linear otr_linear;

typedef int32_t otr_linear_type;
enum {
  OTR_LINEAR_F32 = 0,  /**< weights: float [n, k], quantized at creation */
  OTR_LINEAR_F16 = 1,  /**< weights: IEEE half bits [n, k], quantized at creation */
  OTR_LINEAR_BF16 = 2, /**< weights: bfloat16 bits [n, k], quantized at creation */
  OTR_LINEAR_INT8 = 3  /**< weights: int8 [n, k] and row_absmax [n], as bitsandbytes' CB and SCB */
};
typedef int32_t otr_scope;
enum {
  OTR_SCOPE_TOKEN = 0, /**< each row's own outliers: a row's result never depends on the others */
  OTR_SCOPE_BATCH = 1  /**< bitsandbytes' rule, the union of all rows' columns. On the reference device "cpu" only */
};
typedef struct otr_linear_params {
  uint32_t struct_size;
  otr_linear_type type;
  int32_t n, k;             /**< outputs, inputs; k <= 131072 */
  const void *weights;      /**< [n, k]; copied */
  const float *row_absmax;  /**< [n], OTR_LINEAR_INT8 only; copied */
  const float *bias;        /**< [n] or NULL; copied */
  int32_t n_f16_columns;    /**< features whose weights are kept as f16, too; −1: all. Not with OTR_LINEAR_INT8 */
  const int32_t *f16_columns; /**< [n_f16_columns] ascending; copied */
  otr_outliers outliers;    /**< DEFAULT: relative 4; for OTR_LINEAR_INT8 absolute 6 */
  otr_scope scope;
  int32_t max_rows;         /**< most rows of one run; 0: 512. Longer inputs are cut (token scope only) */
} otr_linear_params;
/** @param[out] out owned by the caller on OK (otr_linear_destroy); NULL otherwise. Nothing is allocated after that.
 *  @return OK, INVALID_ARGUMENT (shapes, −128, a scale or weight that is not finite), UNSUPPORTED, NO_MEMORY.
 *  @threads Any; a linear is used by one thread at a time. */
OTR_API otr_status otr_linear_create(otr_runtime *runtime, const otr_linear_params *params, otr_linear **out);
/** NULL is allowed. */
OTR_API void otr_linear_destroy(otr_linear *linear);
/** y[m, n] = x[m, k] W^T + bias. @param x finite. @return OK, INVALID_ARGUMENT, NONFINITE, DEVICE_LOST. */
OTR_API otr_status otr_linear_run(otr_linear *linear, float *y, const float *x, int32_t m);
/** The outlier features of row `row` of the last run (of its last `max_rows` rows), ascending.
 *  @param columns [capacity] or NULL. @param[out] n how many there are. @return OK, BUFFER_TOO_SMALL, INVALID_ARGUMENT. */
OTR_API otr_status otr_linear_outliers(const otr_linear *linear, int32_t row, int32_t *columns, int32_t capacity,
                                       int32_t *n);
/** Quantized form of row `row` of the last run (as above). @param[out] q [k] or NULL @param[out] scale or NULL
 *  @return OK, INVALID_ARGUMENT, or what the device fails with. */
OTR_API otr_status otr_linear_quantized(const otr_linear *linear, int32_t row, int8_t *q, float *scale);

#ifdef __cplusplus
}
#endif
#endif
