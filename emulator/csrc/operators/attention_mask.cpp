// The sparse modes of flash attention, as CANN documents them (sparse_mode of aclnnFlashAttentionScore and ...VarLenScore).
#include "attention.h"

namespace npu_emulator {

namespace {

constexpr int64_t kCompressed = 2048;        // the compressed causal mask
constexpr int64_t kCompressedPrefix = 3072;  // ... with a rectangle below it for the prefix

/// j - i for query i and key j, counted from the top left corner.
Tensor distance(int64_t queries, int64_t keys) {
    return at::sub(at::arange(keys, at::kLong).unsqueeze(0), at::arange(queries, at::kLong).unsqueeze(1));
}

/// True outside the band low <= distance <= high.
Tensor outside(const Tensor& distance, int64_t low, int64_t high) { return at::logical_or(distance.lt(low), distance.gt(high)); }

/// The mask as given, for one dense piece. For packed sequences it covers the longest of them.
Tensor dense_mask(const Attention& attention, int64_t queries, int64_t keys, int64_t first_batch, int64_t batches) {
    Tensor mask = attention.mask.to(at::kBool);
    bool packed = attention.layout == "TND";
    bool dimensions = mask.dim() == 2 || mask.dim() == 4;
    TORCH_CHECK(dimensions, "atten_mask must have 2 dimensions [Sq, Skv] or 4 [B or 1, N or 1, Sq, Skv], not ", mask.dim());
    bool fits = packed ? mask.size(-2) >= queries && mask.size(-1) >= keys : mask.size(-2) == queries && mask.size(-1) == keys;
    TORCH_CHECK(fits, "atten_mask of shape ", mask.sizes(), " does not cover ", queries, " queries and ", keys, " keys in sparse_mode ",
                attention.sparse_mode);
    mask = mask.narrow(-2, 0, queries).narrow(-1, 0, keys);
    return mask.dim() == 4 && mask.size(0) > 1 ? mask.narrow(0, first_batch, batches) : mask;
}

/// The compressed modes know the shape of the mask; they take its triangle as proof that the caller does, too.
void check_compressed(const Attention& attention, int64_t rows) {
    Tensor mask = attention.mask.to(at::kBool);
    bool shape = mask.dim() >= 2 && mask.size(-2) == rows && mask.size(-1) == kCompressed && mask.numel() == rows * kCompressed;
    TORCH_CHECK(shape, "sparse_mode ", attention.sparse_mode, " takes a compressed atten_mask of shape [", rows, ", ", kCompressed,
                "], not ", attention.mask.sizes());
    Tensor triangle = mask.reshape({rows, kCompressed});
    auto at_place = [&](int64_t row, int64_t column) { return triangle.select(0, row).select(0, column).item<bool>(); };
    bool causal = !at_place(0, 0) && at_place(0, 1) && !at_place(1, 0) && at_place(0, kCompressed - 1) && !at_place(kCompressed - 1, 0);
    TORCH_CHECK(causal, "the compressed atten_mask must be true above the diagonal and false elsewhere (torch.triu(ones, diagonal=1))");
}

/// [batches, 1, 1, 1]
Tensor prefixes(const Attention& attention, int64_t queries, int64_t keys, int64_t first_batch, int64_t batches) {
    const auto& given = attention.prefix.values;
    TORCH_CHECK(static_cast<int64_t>(given.size()) >= first_batch + batches, "sparse_mode ", attention.sparse_mode,
                " needs a prefix for each batch, found ", given.size());
    for (int64_t batch = first_batch; batch < first_batch + batches; batch++) {
        int64_t least = std::max<int64_t>(0, keys - queries);
        TORCH_CHECK(given[batch] >= least && given[batch] <= keys, "prefix ", given[batch], " of batch ", batch, " is not within [", least,
                    ", ", keys, "]");
    }
    return at::tensor(at::IntArrayRef(given).slice(first_batch, batches), at::kLong).view({batches, 1, 1, 1});
}

}  // namespace

Masking attention_mask(const Attention& attention, int64_t mode, int64_t queries, int64_t keys, int64_t first_batch, int64_t batches) {
    TORCH_CHECK(mode >= 0 && mode <= 6, "sparse_mode ", mode, " is not supported in layout ", attention.layout);
    bool always_zero = attention.inner_precise == 2;
    // CANN: without a mask, sparse_mode and the tokens have no effect.
    if (!attention.mask.defined() || attention.mask.numel() == 0 || queries == 0 || keys == 0) return {Tensor(), always_zero};
    auto dtype = attention.mask.scalar_type();
    TORCH_CHECK(dtype == at::kBool || dtype == at::kByte, "atten_mask must be bool or uint8, not ", dtype);

    int64_t to_bottom_right = keys - queries;
    Tensor window;  // what the mode alone says; the kernel sees rows that this leaves empty, and gives zeros for them
    Tensor dense;
    switch (mode) {
        case 0:
            dense = dense_mask(attention, queries, keys, first_batch, batches);
            if (attention.pre_tokens < queries || attention.next_tokens < keys)
                window = outside(distance(queries, keys), -attention.pre_tokens, attention.next_tokens);
            break;
        case 1:
            dense = dense_mask(attention, queries, keys, first_batch, batches);
            break;
        case 2:
            check_compressed(attention, kCompressed);
            window = distance(queries, keys).gt(0);
            break;
        case 3:
            check_compressed(attention, kCompressed);
            window = distance(queries, keys).gt(to_bottom_right);
            break;
        case 4:
            check_compressed(attention, kCompressed);
            window = outside(distance(queries, keys), to_bottom_right - attention.pre_tokens, to_bottom_right + attention.next_tokens);
            break;
        case 5:
            TORCH_CHECK(attention.mask.dim() == 4, "sparse_mode 5 takes an atten_mask of shape [B, N or 1, Sq, Skv]");
            dense = dense_mask(attention, queries, keys, first_batch, batches);
            prefixes(attention, queries, keys, first_batch, batches);
            break;
        case 6:
            check_compressed(attention, kCompressedPrefix);
            Tensor beyond = at::arange(keys, at::kLong).view({1, 1, 1, keys}).ge(prefixes(attention, queries, keys, first_batch, batches));
            window = at::logical_and(beyond, distance(queries, keys).gt(to_bottom_right));
            break;
    }
    if (!window.defined()) return {dense, always_zero};
    TORCH_CHECK(!window.all().item<bool>(), "sparse_mode ", mode, " with pre_tokens ", attention.pre_tokens, " and next_tokens ",
                attention.next_tokens, " leaves no score to compute");
    bool empty_rows = window.all(-1).any().item<bool>();
    return {dense.defined() ? at::logical_or(dense, window) : window, always_zero || empty_rows};
}

}  // namespace npu_emulator
