// Flash attention as CANN's operators define it, computed in float32 without tiling.
#pragma once
#include "operator.h"

namespace npu_emulator {

/// What every version of the operators takes; a version that lacks an argument leaves it as it is here.
struct Attention {
    Tensor query, key, value;         // in `layout`; key and value may have fewer heads (grouped queries)
    Tensor query_rope, key_rope;      // more head dimensions, kept apart (multi-head latent attention)
    Tensor pse;                       // position encoding, added to the scores
    Tensor drop_mask;                 // one bit for each score, 1 keeps it
    Tensor padding_mask;              // CANN: reserved
    Tensor mask;                      // true where a score does not count; [2048, 2048] for the compressed sparse modes
    Tensor sink;                      // [heads]: one more score for each row, without a value
    Ints prefix;                      // sparse modes 5 and 6: leading keys that every query of the batch sees
    Ints query_lengths, key_lengths;  // layout TND: cumulative lengths of the sequences
    double scale = 1, keep_prob = 1;
    int64_t pre_tokens = 0, next_tokens = 0;
    int64_t heads = 0;
    Text layout;  // BNSD, BSND, BSH, SBH or TND
    int64_t inner_precise = 0;
    int64_t sparse_mode = 0;
    int64_t pse_type = 1;
    Text softmax_layout = "";    // of TND: "same_as_input", or "" for blocks [heads, length, 8] of each sequence
    bool draws_dropout = false;  // Ascend950 makes the mask itself, from:
    int64_t seed = 0, offset = 0;
};

/// Which scores of one dense piece do not count, and what becomes of a row in which none does.
struct Masking {
    Tensor masked;           // bool, broadcasts to [batch, heads, queries, keys]; undefined where all count
    bool zero_rows = false;  // such a row gives zeros, not the mean of all values
};

/// The mask of `batches` batches (or sequences) from `first_batch` on; `mode` is the sparse mode of this piece.
/// Throws where CANN refuses the combination of sparse mode, mask, tokens and prefix. (attention_mask.cpp)
Masking attention_mask(const Attention& attention, int64_t mode, int64_t queries, int64_t keys, int64_t first_batch, int64_t batches);

/// Computes `out` in the layout of the query, and the row maxima and sums that the gradient needs.
void attention_forward(const Attention& attention, const Output& softmax_max, const Output& softmax_sum, const Output& out);

struct AttentionGradients {
    Tensor query, key, value, query_rope, key_rope, pse, sink;  // undefined where the input was
};

AttentionGradients attention_backward(const Attention& attention, const Tensor& grad, const Tensor& softmax_max, const Tensor& softmax_sum,
                                      const Tensor& out);

}  // namespace npu_emulator
