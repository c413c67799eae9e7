// Flash attention: CANN's operators of all versions, dense (Score) and packed (VarLenScore), and their gradients.
#include "attention.h"

// In every declaration below an argument has the same name, that of the field of Attention.
#define SHARED_ARGUMENTS             \
    {.query = query,                 \
     .key = key,                     \
     .value = value,                 \
     .pse = pse,                     \
     .drop_mask = drop_mask,         \
     .padding_mask = padding_mask,   \
     .mask = mask,                   \
     .prefix = prefix,               \
     .scale = scale,                 \
     .keep_prob = keep_prob,         \
     .pre_tokens = pre_tokens,       \
     .next_tokens = next_tokens,     \
     .heads = heads,                 \
     .layout = layout,               \
     .inner_precise = inner_precise, \
     .sparse_mode = sparse_mode}

static void write(const AttentionGradients& gradients, const Output& query, const Output& key, const Output& value, const Output& pse) {
    query = gradients.query;
    key = gradients.key;
    value = gradients.value;
    pse = gradients.pse;
}

// ---- dense batches -----------------------------------------------------------------------------------------------------------

OPERATOR(aclnnFlashAttentionScore, Accumulating,
         (Tensor query, Tensor key, Tensor value, Tensor pse, Tensor drop_mask, Tensor padding_mask, Tensor mask, Ints prefix, double scale,
          double keep_prob, int64_t pre_tokens, int64_t next_tokens, int64_t heads, Text layout, int64_t inner_precise, int64_t sparse_mode,
          Output softmax_max, Output softmax_sum, Output softmax_out, Output out),
         attention_forward(SHARED_ARGUMENTS, softmax_max, softmax_sum, out))
OPERATOR(aclnnFlashAttentionScoreGrad, Accumulating,
         (Tensor query, Tensor key, Tensor value, Tensor grad, Tensor pse, Tensor drop_mask, Tensor padding_mask, Tensor mask,
          Tensor softmax_max, Tensor softmax_sum, Tensor softmax_in, Tensor attention_in, Ints prefix, double scale, double keep_prob,
          int64_t pre_tokens, int64_t next_tokens, int64_t heads, Text layout, int64_t inner_precise, int64_t sparse_mode,
          Output grad_query, Output grad_key, Output grad_value, Output grad_pse),
         write(attention_backward(SHARED_ARGUMENTS, grad, softmax_max, softmax_sum, attention_in), grad_query, grad_key, grad_value,
               grad_pse))

// V2: pse_type; the start indices place generated position encodings, which are not emulated.
OPERATOR(aclnnFlashAttentionScoreV2, Accumulating,
         (Tensor query, Tensor key, Tensor value, Tensor pse, Tensor drop_mask, Tensor padding_mask, Tensor mask, Ints prefix,
          Ints query_start, Ints key_start, double scale, double keep_prob, int64_t pre_tokens, int64_t next_tokens, int64_t heads,
          Text layout, int64_t inner_precise, int64_t sparse_mode, int64_t pse_type, Output softmax_max, Output softmax_sum,
          Output softmax_out, Output out),
         {
             Attention attention SHARED_ARGUMENTS;
             attention.pse_type = pse_type;
             attention_forward(attention, softmax_max, softmax_sum, out);
         })
OPERATOR(aclnnFlashAttentionScoreGradV2, Accumulating,
         (Tensor query, Tensor key, Tensor value, Tensor grad, Tensor pse, Tensor drop_mask, Tensor padding_mask, Tensor mask,
          Tensor softmax_max, Tensor softmax_sum, Tensor softmax_in, Tensor attention_in, Ints prefix, Ints query_start, Ints key_start,
          double scale, double keep_prob, int64_t pre_tokens, int64_t next_tokens, int64_t heads, Text layout, int64_t inner_precise,
          int64_t sparse_mode, int64_t pse_type, Output grad_query, Output grad_key, Output grad_value, Output grad_pse),
         {
             Attention attention SHARED_ARGUMENTS;
             attention.pse_type = pse_type;
             write(attention_backward(attention, grad, softmax_max, softmax_sum, attention_in), grad_query, grad_key, grad_value, grad_pse);
         })

// V3: a sink.
OPERATOR(aclnnFlashAttentionScoreV3, Accumulating,
         (Tensor query, Tensor key, Tensor value, Tensor pse, Tensor drop_mask, Tensor padding_mask, Tensor mask, Tensor sink, Ints prefix,
          Ints query_start, Ints key_start, double scale, double keep_prob, int64_t pre_tokens, int64_t next_tokens, int64_t heads,
          Text layout, int64_t inner_precise, int64_t sparse_mode, int64_t pse_type, Output softmax_max, Output softmax_sum,
          Output softmax_out, Output out),
         {
             Attention attention SHARED_ARGUMENTS;
             attention.sink = sink;
             attention.pse_type = pse_type;
             attention_forward(attention, softmax_max, softmax_sum, out);
         })
OPERATOR(aclnnFlashAttentionScoreGradV3, Accumulating,
         (Tensor query, Tensor key, Tensor value, Tensor grad, Tensor pse, Tensor drop_mask, Tensor padding_mask, Tensor mask,
          Tensor softmax_max, Tensor softmax_sum, Tensor softmax_in, Tensor attention_in, Tensor sink, Ints prefix, Ints query_start,
          Ints key_start, double scale, double keep_prob, int64_t pre_tokens, int64_t next_tokens, int64_t heads, Text layout,
          int64_t inner_precise, int64_t sparse_mode, int64_t pse_type, Output grad_query, Output grad_key, Output grad_value,
          Output grad_pse, Output grad_sink),
         {
             Attention attention SHARED_ARGUMENTS;
             attention.sink = sink;
             attention.pse_type = pse_type;
             auto gradients = attention_backward(attention, grad, softmax_max, softmax_sum, attention_in);
             write(gradients, grad_query, grad_key, grad_value, grad_pse);
             grad_sink = gradients.sink;
         })

// V4 (Ascend950): dense and packed in one, dropout drawn by the operator. The scales belong to 8 bit inputs.
OPERATOR(aclnnFlashAttentionScoreV4, Accumulating,
         (Tensor query, Tensor key, Tensor value, Tensor pse, Tensor drop_mask, Tensor padding_mask, Tensor mask, Tensor query_rope,
          Tensor key_rope, Tensor query_scale, Tensor key_scale, Tensor value_scale, Tensor sink, Ints prefix, Ints query_lengths,
          Ints key_lengths, Ints query_start, Ints key_start, double scale, double keep_prob, int64_t pre_tokens, int64_t next_tokens,
          int64_t heads, Text layout, int64_t inner_precise, int64_t sparse_mode, int64_t out_dtype, int64_t pse_type, Text softmax_layout,
          int64_t seed, int64_t offset, Output softmax_max, Output softmax_sum, Output softmax_out, Output out),
         {
             TORCH_CHECK(!query_scale.defined(), "quantised attention is not emulated");
             Attention attention SHARED_ARGUMENTS;
             attention.query_rope = query_rope;
             attention.key_rope = key_rope;
             attention.sink = sink;
             attention.query_lengths = query_lengths;
             attention.key_lengths = key_lengths;
             attention.pse_type = pse_type;
             attention.softmax_layout = softmax_layout;
             attention.draws_dropout = true;
             attention.seed = seed;
             attention.offset = offset;
             attention_forward(attention, softmax_max, softmax_sum, out);
         })
OPERATOR(aclnnFlashAttentionScoreGradV4, Accumulating,
         (Tensor query, Tensor key, Tensor value, Tensor grad, Tensor pse, Tensor drop_mask, Tensor padding_mask, Tensor mask,
          Tensor softmax_max, Tensor softmax_sum, Tensor softmax_in, Tensor attention_in, Tensor sink, Tensor query_rope, Tensor key_rope,
          Tensor query_scale, Tensor key_scale, Tensor value_scale, Tensor grad_scale, Tensor out_scale, Ints prefix, Ints query_lengths,
          Ints key_lengths, Ints query_start, Ints key_start, double scale, double keep_prob, int64_t pre_tokens, int64_t next_tokens,
          int64_t heads, Text layout, Text softmax_layout, int64_t inner_precise, int64_t sparse_mode, int64_t pse_type, int64_t seed,
          int64_t offset, int64_t out_dtype, Output grad_query, Output grad_key, Output grad_value, Output grad_query_rope,
          Output grad_key_rope, Output grad_pse, Output grad_sink),
         {
             TORCH_CHECK(!query_scale.defined(), "quantised attention is not emulated");
             Attention attention SHARED_ARGUMENTS;
             attention.query_rope = query_rope;
             attention.key_rope = key_rope;
             attention.sink = sink;
             attention.query_lengths = query_lengths;
             attention.key_lengths = key_lengths;
             attention.pse_type = pse_type;
             attention.softmax_layout = softmax_layout;
             attention.draws_dropout = true;
             attention.seed = seed;
             attention.offset = offset;
             auto gradients = attention_backward(attention, grad, softmax_max, softmax_sum, attention_in);
             write(gradients, grad_query, grad_key, grad_value, grad_pse);
             grad_query_rope = gradients.query_rope;
             grad_key_rope = gradients.key_rope;
             grad_sink = gradients.sink;
         })

// ---- packed sequences -----------------------------------------------------------------------------------------------------------

OPERATOR(aclnnFlashAttentionVarLenScore, Accumulating,
         (Tensor query, Tensor key, Tensor value, Tensor pse, Tensor drop_mask, Tensor padding_mask, Tensor mask, Ints prefix,
          Ints query_lengths, Ints key_lengths, double scale, double keep_prob, int64_t pre_tokens, int64_t next_tokens, int64_t heads,
          Text layout, int64_t inner_precise, int64_t sparse_mode, Output softmax_max, Output softmax_sum, Output softmax_out, Output out),
         {
             Attention attention SHARED_ARGUMENTS;
             attention.query_lengths = query_lengths;
             attention.key_lengths = key_lengths;
             attention_forward(attention, softmax_max, softmax_sum, out);
         })
OPERATOR(aclnnFlashAttentionUnpaddingScoreGrad, Accumulating,
         (Tensor query, Tensor key, Tensor value, Tensor grad, Tensor pse, Tensor drop_mask, Tensor padding_mask, Tensor mask,
          Tensor softmax_max, Tensor softmax_sum, Tensor softmax_in, Tensor attention_in, Ints prefix, Ints query_lengths, Ints key_lengths,
          double scale, double keep_prob, int64_t pre_tokens, int64_t next_tokens, int64_t heads, Text layout, int64_t inner_precise,
          int64_t sparse_mode, Output grad_query, Output grad_key, Output grad_value, Output grad_pse),
         {
             Attention attention SHARED_ARGUMENTS;
             attention.query_lengths = query_lengths;
             attention.key_lengths = key_lengths;
             write(attention_backward(attention, grad, softmax_max, softmax_sum, attention_in), grad_query, grad_key, grad_value, grad_pse);
         })

OPERATOR(aclnnFlashAttentionVarLenScoreV2, Accumulating,
         (Tensor query, Tensor key, Tensor value, Tensor pse, Tensor drop_mask, Tensor padding_mask, Tensor mask, Ints prefix,
          Ints query_lengths, Ints key_lengths, Ints query_start, Ints key_start, double scale, double keep_prob, int64_t pre_tokens,
          int64_t next_tokens, int64_t heads, Text layout, int64_t inner_precise, int64_t sparse_mode, int64_t pse_type, Output softmax_max,
          Output softmax_sum, Output softmax_out, Output out),
         {
             Attention attention SHARED_ARGUMENTS;
             attention.query_lengths = query_lengths;
             attention.key_lengths = key_lengths;
             attention.pse_type = pse_type;
             attention_forward(attention, softmax_max, softmax_sum, out);
         })
OPERATOR(aclnnFlashAttentionUnpaddingScoreGradV2, Accumulating,
         (Tensor query, Tensor key, Tensor value, Tensor grad, Tensor pse, Tensor drop_mask, Tensor padding_mask, Tensor mask,
          Tensor softmax_max, Tensor softmax_sum, Tensor softmax_in, Tensor attention_in, Ints prefix, Ints query_lengths, Ints key_lengths,
          Ints query_start, Ints key_start, double scale, double keep_prob, int64_t pre_tokens, int64_t next_tokens, int64_t heads,
          Text layout, int64_t inner_precise, int64_t sparse_mode, int64_t pse_type, Output grad_query, Output grad_key, Output grad_value,
          Output grad_pse),
         {
             Attention attention SHARED_ARGUMENTS;
             attention.query_lengths = query_lengths;
             attention.key_lengths = key_lengths;
             attention.pse_type = pse_type;
             write(attention_backward(attention, grad, softmax_max, softmax_sum, attention_in), grad_query, grad_key, grad_value, grad_pse);
         })

// V3: rotary parts of query and key, kept apart.
OPERATOR(aclnnFlashAttentionVarLenScoreV3, Accumulating,
         (Tensor query, Tensor query_rope, Tensor key, Tensor key_rope, Tensor value, Tensor pse, Tensor drop_mask, Tensor padding_mask,
          Tensor mask, Ints prefix, Ints query_lengths, Ints key_lengths, Ints query_start, Ints key_start, double scale, double keep_prob,
          int64_t pre_tokens, int64_t next_tokens, int64_t heads, Text layout, int64_t inner_precise, int64_t sparse_mode, int64_t pse_type,
          Output softmax_max, Output softmax_sum, Output softmax_out, Output out),
         {
             Attention attention SHARED_ARGUMENTS;
             attention.query_rope = query_rope;
             attention.key_rope = key_rope;
             attention.query_lengths = query_lengths;
             attention.key_lengths = key_lengths;
             attention.pse_type = pse_type;
             attention_forward(attention, softmax_max, softmax_sum, out);
         })
OPERATOR(aclnnFlashAttentionUnpaddingScoreGradV3, Accumulating,
         (Tensor query, Tensor query_rope, Tensor key, Tensor key_rope, Tensor value, Tensor grad, Tensor pse, Tensor drop_mask,
          Tensor padding_mask, Tensor mask, Tensor softmax_max, Tensor softmax_sum, Tensor softmax_in, Tensor attention_in, Ints prefix,
          Ints query_lengths, Ints key_lengths, Ints query_start, Ints key_start, double scale, double keep_prob, int64_t pre_tokens,
          int64_t next_tokens, int64_t heads, Text layout, int64_t inner_precise, int64_t sparse_mode, int64_t pse_type, Output grad_query,
          Output grad_query_rope, Output grad_key, Output grad_key_rope, Output grad_value, Output grad_pse),
         {
             Attention attention SHARED_ARGUMENTS;
             attention.query_rope = query_rope;
             attention.key_rope = key_rope;
             attention.query_lengths = query_lengths;
             attention.key_lengths = key_lengths;
             attention.pse_type = pse_type;
             auto gradients = attention_backward(attention, grad, softmax_max, softmax_sum, attention_in);
             write(gradients, grad_query, grad_key, grad_value, grad_pse);
             grad_query_rope = gradients.query_rope;
             grad_key_rope = gradients.key_rope;
         })

// V4: the layout of the row statistics.
OPERATOR(aclnnFlashAttentionVarLenScoreV4, Accumulating,
         (Tensor query, Tensor key, Tensor value, Tensor pse, Tensor drop_mask, Tensor padding_mask, Tensor mask, Ints prefix,
          Ints query_lengths, Ints key_lengths, double scale, double keep_prob, int64_t pre_tokens, int64_t next_tokens, int64_t heads,
          Text layout, int64_t inner_precise, int64_t sparse_mode, Text softmax_layout, Output softmax_max, Output softmax_sum,
          Output softmax_out, Output out),
         {
             Attention attention SHARED_ARGUMENTS;
             attention.query_lengths = query_lengths;
             attention.key_lengths = key_lengths;
             attention.softmax_layout = softmax_layout;
             attention_forward(attention, softmax_max, softmax_sum, out);
         })
OPERATOR(aclnnFlashAttentionUnpaddingScoreGradV4, Accumulating,
         (Tensor query, Tensor key, Tensor value, Tensor grad, Tensor pse, Tensor drop_mask, Tensor padding_mask, Tensor mask,
          Tensor softmax_max, Tensor softmax_sum, Tensor softmax_in, Tensor attention_in, Ints prefix, Ints query_lengths, Ints key_lengths,
          double scale, double keep_prob, int64_t pre_tokens, int64_t next_tokens, int64_t heads, Text layout, int64_t inner_precise,
          int64_t sparse_mode, Output grad_query, Output grad_key, Output grad_value, Output grad_pse, Text softmax_layout),
         {
             Attention attention SHARED_ARGUMENTS;
             attention.query_lengths = query_lengths;
             attention.key_lengths = key_lengths;
             attention.softmax_layout = softmax_layout;
             write(attention_backward(attention, grad, softmax_max, softmax_sum, attention_in), grad_query, grad_key, grad_value, grad_pse);
         })

// V5: all of the above, and a sink.
OPERATOR(aclnnFlashAttentionVarLenScoreV5, Accumulating,
         (Tensor query, Tensor query_rope, Tensor key, Tensor key_rope, Tensor value, Tensor pse, Tensor drop_mask, Tensor padding_mask,
          Tensor mask, Tensor sink, Ints prefix, Ints query_lengths, Ints key_lengths, Ints query_start, Ints key_start, double scale,
          double keep_prob, int64_t pre_tokens, int64_t next_tokens, int64_t heads, Text layout, int64_t inner_precise, int64_t sparse_mode,
          int64_t pse_type, Text softmax_layout, Output softmax_max, Output softmax_sum, Output softmax_out, Output out),
         {
             Attention attention SHARED_ARGUMENTS;
             attention.query_rope = query_rope;
             attention.key_rope = key_rope;
             attention.sink = sink;
             attention.query_lengths = query_lengths;
             attention.key_lengths = key_lengths;
             attention.pse_type = pse_type;
             attention.softmax_layout = softmax_layout;
             attention_forward(attention, softmax_max, softmax_sum, out);
         })
OPERATOR(aclnnFlashAttentionUnpaddingScoreGradV5, Accumulating,
         (Tensor query, Tensor query_rope, Tensor key, Tensor key_rope, Tensor value, Tensor grad, Tensor pse, Tensor drop_mask,
          Tensor padding_mask, Tensor mask, Tensor softmax_max, Tensor softmax_sum, Tensor softmax_in, Tensor attention_in, Tensor sink,
          Ints prefix, Ints query_lengths, Ints key_lengths, Ints query_start, Ints key_start, double scale, double keep_prob,
          int64_t pre_tokens, int64_t next_tokens, int64_t heads, Text layout, int64_t inner_precise, int64_t sparse_mode, int64_t pse_type,
          Text softmax_layout, Output grad_query, Output grad_query_rope, Output grad_key, Output grad_key_rope, Output grad_value,
          Output grad_pse, Output grad_sink),
         {
             Attention attention SHARED_ARGUMENTS;
             attention.query_rope = query_rope;
             attention.key_rope = key_rope;
             attention.sink = sink;
             attention.query_lengths = query_lengths;
             attention.key_lengths = key_lengths;
             attention.pse_type = pse_type;
             attention.softmax_layout = softmax_layout;
             auto gradients = attention_backward(attention, grad, softmax_max, softmax_sum, attention_in);
             write(gradients, grad_query, grad_key, grad_value, grad_pse);
             grad_query_rope = gradients.query_rope;
             grad_key_rope = gradients.key_rope;
             grad_sink = gradients.sink;
         })
