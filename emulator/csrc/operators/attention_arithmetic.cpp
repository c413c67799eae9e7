// Flash attention in float32: the pieces of a batch, their softmax, and its gradient.
#include <limits>

#include "attention.h"
#include "dropout.h"
#include "random.h"
#include "widening.h"

namespace npu_emulator {

namespace {

constexpr float kMasked = -std::numeric_limits<float>::max();  // the device's score of a masked place: finite

// ---- layouts ----------------------------------------------------------------------------------------------------------------

/// One dense part of the work: the whole batch, or one sequence of a packed batch.
struct Piece {
    int64_t index = 0;  // of the sequence
    int64_t first_query = 0, queries = 0, first_key = 0, keys = 0;
    int64_t batches = 1;
    int64_t mode = 0;  // its sparse mode
};

bool packed(const Attention& attention) { return attention.layout == "TND"; }

int64_t key_heads(const Attention& attention) {
    const Text& layout = attention.layout;
    if (layout == "BNSD" || layout == "TND") return attention.key.size(1);
    if (layout == "BSND") return attention.key.size(2);
    int64_t width = attention.query.size(2) / attention.heads;
    return width ? attention.key.size(2) / width : 0;
}

/// float32 [batch, heads, positions, width] of a piece.
Tensor to_heads(const Tensor& input, const Text& layout, int64_t heads, int64_t first, int64_t length) {
    Tensor x = widened(input);
    if (layout == "BNSD") return x;
    if (layout == "BSND") return x.transpose(1, 2);
    if (layout == "TND") return x.narrow(0, first, length).transpose(0, 1).unsqueeze(0);
    Tensor split = x.view({x.size(0), x.size(1), heads, x.size(2) / std::max<int64_t>(heads, 1)});
    return layout == "BSH" ? split.transpose(1, 2) : split.permute({1, 2, 0, 3});
}

/// Writes a piece back into a tensor of the layout.
void from_heads(const Tensor& piece, const Tensor& whole, const Text& layout, int64_t first, int64_t length) {
    if (layout == "BNSD") {
        whole.copy_(piece);
    } else if (layout == "BSND") {
        whole.copy_(piece.transpose(1, 2));
    } else if (layout == "TND") {
        whole.narrow(0, first, length).copy_(piece.squeeze(0).transpose(0, 1));
    } else {
        whole.copy_((layout == "BSH" ? piece.transpose(1, 2) : piece.permute({2, 0, 1, 3})).flatten(2));
    }
}

std::vector<Piece> pieces(const Attention& attention) {
    const Tensor& query = attention.query;
    const Tensor& key = attention.key;
    const Text& layout = attention.layout;
    if (!packed(attention)) {
        int64_t batch = layout == "SBH" ? 1 : 0;
        int64_t positions = layout == "SBH" ? 0 : layout == "BNSD" ? 2 : 1;
        return {{0, 0, query.size(positions), 0, key.size(positions), query.size(batch), attention.sparse_mode}};
    }
    const auto& query_ends = attention.query_lengths.values;
    const auto& key_ends = attention.key_lengths.values;
    TORCH_CHECK(!query_ends.empty() && query_ends.size() == key_ends.size(),
                "layout TND needs actual_seq_qlen and actual_seq_kvlen of the same length, found ", query_ends.size(), " and ",
                key_ends.size());
    TORCH_CHECK(query_ends.back() <= query.size(0) && key_ends.back() <= key.size(0), "actual_seq_qlen ends at ", query_ends.back(),
                " and actual_seq_kvlen at ", key_ends.back(), ", beyond ", query.size(0), " queries and ", key.size(0), " keys");
    std::vector<Piece> sequences;
    int64_t first_filled = -1, last_filled = -1;
    for (size_t i = 0; i < query_ends.size(); i++) {
        int64_t first_query = i ? query_ends[i - 1] : 0;
        int64_t first_key = i ? key_ends[i - 1] : 0;
        int64_t queries = query_ends[i] - first_query;
        int64_t keys = key_ends[i] - first_key;
        TORCH_CHECK(queries >= 0 && keys >= 0, "actual_seq_qlen and actual_seq_kvlen are cumulative: they must not decrease");
        int64_t index = static_cast<int64_t>(i);
        sequences.push_back({index, first_query, queries, first_key, keys, 1, attention.sparse_mode});
        if (queries && first_filled < 0) first_filled = index;
        if (queries) last_filled = index;
    }
    // Modes 7 and 8 are a causal mode whose last or first sequence was cut between cards: that one is a band.
    constexpr int64_t kLeftUp = 2, kRightDown = 3, kBand = 4;
    for (auto& piece : sequences) {
        if (attention.sparse_mode == 7) piece.mode = piece.index == last_filled ? kBand : kRightDown;
        if (attention.sparse_mode == 8) piece.mode = piece.index == first_filled ? kBand : kLeftUp;
    }
    return sequences;
}

void check(const Attention& attention) {
    const Text& layout = attention.layout;
    bool known = layout == "BNSD" || layout == "BSND" || layout == "BSH" || layout == "SBH" || layout == "TND";
    TORCH_CHECK(known, "input_layout ", layout, " is not supported (BNSD, BSND, BSH, SBH, TND)");
    TORCH_CHECK(packed(attention) || attention.query_lengths.values.empty(), "actual_seq_qlen belongs to layout TND, not to ", layout);
    TORCH_CHECK(!attention.padding_mask.defined(), "padding_mask is not supported by CANN");
    TORCH_CHECK(attention.pse_type == 0 || attention.pse_type == 1, "pse_type ", attention.pse_type,
                " (position encoding made by the operator) is not emulated (csrc/operators/attention_arithmetic.cpp)");
    int64_t of_keys = key_heads(attention);
    TORCH_CHECK(attention.heads > 0 && of_keys > 0 && attention.heads % of_keys == 0, "the number of query heads, ", attention.heads,
                ", must be a multiple of the number of key heads, ", of_keys);
    int64_t positions = attention.query.dim() == 4 ? 3 : 2;
    int64_t query_width = attention.query.size(positions);
    int64_t key_width = attention.key.size(positions);
    int64_t value_width = attention.value.size(positions);
    if (layout == "BSH" || layout == "SBH") {
        query_width /= attention.heads;
        key_width /= of_keys;
        value_width /= of_keys;
    }
    TORCH_CHECK(query_width == key_width && key_width >= value_width, "head dimensions ", query_width, ", ", key_width, ", ", value_width,
                " of query, key, value: CANN needs query == key >= value");
    TORCH_CHECK(query_width <= 768, "head dimension ", query_width, ": CANN's limit is 768");
}

// ---- one piece ----------------------------------------------------------------------------------------------------------------

/// The inputs of a piece as float32, with one key head for each query head.
struct Operands {
    Tensor query, key, value, pse, sink, keep;
    Masking masking;
};

Tensor repeated(const Tensor& heads, int64_t times) { return times == 1 ? heads : at::repeat_interleave(heads, times, 1); }

/// The dropout mask of all pieces in memory order, [total]; undefined without dropout.
Tensor keep_flags(const Attention& attention, const std::vector<Piece>& all) {
    if (attention.keep_prob >= 1) return Tensor();
    int64_t total = 0;
    for (auto& piece : all) total += piece.batches * attention.heads * piece.queries * piece.keys;
    if (attention.drop_mask.defined() && attention.drop_mask.numel()) return unpack_keep_mask(attention.drop_mask, total);
    TORCH_CHECK(attention.draws_dropout, "keep_prob ", attention.keep_prob, " needs a drop_mask");
    auto generator = generator_for(static_cast<uint64_t>(attention.seed), static_cast<uint64_t>(attention.offset));
    return at::rand({total}, generator, at::TensorOptions().dtype(at::kFloat)).lt(attention.keep_prob);
}

Operands operands(const Attention& attention, const Piece& piece, const Tensor& keep, int64_t& used) {
    Operands result;
    int64_t of_keys = key_heads(attention);
    int64_t times = attention.heads / of_keys;
    auto with_rope = [&](const Tensor& main, const Tensor& rope, int64_t heads, int64_t first, int64_t length) {
        Tensor x = to_heads(main, attention.layout, heads, first, length);
        return rope.defined() && rope.numel() ? at::cat({x, to_heads(rope, attention.layout, heads, first, length)}, -1) : x;
    };
    result.query = with_rope(attention.query, attention.query_rope, attention.heads, piece.first_query, piece.queries);
    result.key = repeated(with_rope(attention.key, attention.key_rope, of_keys, piece.first_key, piece.keys), times);
    result.value = repeated(to_heads(attention.value, attention.layout, of_keys, piece.first_key, piece.keys), times);
    if (attention.pse.defined() && attention.pse.numel()) {
        Tensor pse = widened(attention.pse);
        TORCH_CHECK(pse.dim() == 4 && (pse.size(2) == 1 || pse.size(2) >= piece.queries) && pse.size(3) >= piece.keys, "pse of shape ",
                    attention.pse.sizes(), " is not [B or 1, N, Sq or 1, Skv] (the compressed form is not emulated)");
        if (packed(attention) && pse.size(0) > 1) pse = pse.narrow(0, piece.index, 1);
        if (pse.size(2) > 1) pse = pse.narrow(2, 0, piece.queries);
        result.pse = pse.narrow(3, 0, piece.keys);
    }
    if (attention.sink.defined()) result.sink = widened(attention.sink).view({1, attention.heads, 1, 1});
    result.masking = attention_mask(attention, piece.mode, piece.queries, piece.keys, piece.index, piece.batches);
    if (keep.defined()) {
        int64_t count = piece.batches * attention.heads * piece.queries * piece.keys;
        result.keep = keep.narrow(0, used, count).view({piece.batches, attention.heads, piece.queries, piece.keys});
        used += count;
    }
    return result;
}

Tensor scores(const Attention& attention, const Operands& x) {
    Tensor products = at::matmul(x.query, x.key.transpose(-1, -2));
    bool shift_first = attention.pse_type == 1;
    if (x.pse.defined() && shift_first) products = at::add(products, x.pse);
    products = at::mul(products, attention.scale);
    if (x.pse.defined() && !shift_first) products = at::add(products, x.pse);
    return x.masking.masked.defined() ? at::masked_fill(products, x.masking.masked, kMasked) : products;
}

Tensor dropped(const Tensor& probabilities, const Operands& x, double keep_prob) {
    return x.keep.defined() ? at::div(at::mul(probabilities, x.keep), keep_prob) : probabilities;
}

/// Where a piece's row statistics, [batch, heads, queries, 8], stand in the whole tensor of them.
Tensor statistics_of(const Tensor& whole, const Attention& attention, const Piece& piece) {
    if (!packed(attention)) return whole;
    if (attention.softmax_layout == "same_as_input") return whole.narrow(0, piece.first_query, piece.queries).transpose(0, 1).unsqueeze(0);
    Tensor block = whole.view({-1}).narrow(0, piece.first_query * attention.heads * 8, piece.queries * attention.heads * 8);
    return block.view({1, attention.heads, piece.queries, 8});
}

}  // namespace

void attention_forward(const Attention& attention, const Output& softmax_max, const Output& softmax_sum, const Output& out) {
    check(attention);
    auto all = pieces(attention);
    Tensor keep = keep_flags(attention, all);
    int64_t used = 0;
    out->zero_();
    softmax_max->zero_();
    softmax_sum->zero_();
    for (auto& piece : all) {
        if (!piece.queries || !piece.keys || out->numel() == 0) continue;
        Operands x = operands(attention, piece, keep, used);
        Tensor s = scores(attention, x);
        Tensor maximum = at::amax(s, {-1}, true);
        if (x.sink.defined()) maximum = at::maximum(maximum, x.sink);
        Tensor exponentials = at::exp(at::sub(s, maximum));
        Tensor sum = at::sum(exponentials, {-1}, true);
        if (x.sink.defined()) sum = at::add(sum, at::exp(at::sub(x.sink, maximum)));
        Tensor empty = maximum.le(kMasked);
        if (empty.any().item<bool>()) {
            // No score counts: zeros or, where the device does not notice that all are masked, the mean of all values.
            // With these statistics the gradient, exp(kMasked - 0) / 1, is zero as well.
            if (!x.masking.zero_rows && x.masking.masked.defined())
                empty = at::logical_and(empty, at::logical_not(x.masking.masked.expand_as(s).all(-1, true)));
            exponentials = at::masked_fill(exponentials, empty, 0);
            maximum = at::masked_fill(maximum, empty, 0);
            sum = at::masked_fill(sum, empty, 1);
        }
        Tensor probabilities = dropped(at::div(exponentials, sum), x, attention.keep_prob);
        from_heads(at::matmul(probabilities, x.value), *out, attention.layout, piece.first_query, piece.queries);
        statistics_of(*softmax_max, attention, piece).copy_(maximum);  // the device repeats each number 8 times: a block of 32 bytes
        statistics_of(*softmax_sum, attention, piece).copy_(sum);
    }
}

AttentionGradients attention_backward(const Attention& attention, const Tensor& grad, const Tensor& softmax_max, const Tensor& softmax_sum,
                                      const Tensor& out) {
    check(attention);
    auto like = [](const Tensor& input) { return input.defined() ? at::zeros(input.sizes(), at::kFloat) : Tensor(); };
    AttentionGradients result{like(attention.query),    like(attention.key), like(attention.value), like(attention.query_rope),
                              like(attention.key_rope), like(attention.pse), like(attention.sink)};
    auto all = pieces(attention);
    Tensor keep = keep_flags(attention, all);
    int64_t used = 0;
    int64_t of_keys = key_heads(attention);
    for (auto& piece : all) {
        if (!piece.queries || !piece.keys || grad.numel() == 0) continue;
        Operands x = operands(attention, piece, keep, used);
        Tensor maximum = widened(statistics_of(softmax_max, attention, piece)).narrow(-1, 0, 1);
        Tensor sum = widened(statistics_of(softmax_sum, attention, piece)).narrow(-1, 0, 1);
        Tensor probabilities = at::div(at::exp(at::sub(scores(attention, x), maximum)), sum);

        Tensor dy = to_heads(grad, attention.layout, attention.heads, piece.first_query, piece.queries);
        Tensor grad_value = at::matmul(dropped(probabilities, x, attention.keep_prob).transpose(-1, -2), dy);
        Tensor grad_probabilities = dropped(at::matmul(dy, x.value.transpose(-1, -2)), x, attention.keep_prob);
        // The row sum of probabilities * grad_probabilities, which the device takes from the output.
        Tensor y = out.defined() ? to_heads(out, attention.layout, attention.heads, piece.first_query, piece.queries) : Tensor();
        Tensor delta = at::sum(y.defined() ? at::mul(dy, y) : at::mul(probabilities, grad_probabilities), {-1}, true);
        Tensor grad_scores = at::mul(probabilities, at::sub(grad_probabilities, delta));
        Tensor grad_products = at::mul(grad_scores, attention.scale);
        Tensor grad_query = at::matmul(grad_products, x.key);
        Tensor grad_key = at::matmul(grad_products.transpose(-1, -2), x.query);

        // A key head gets the gradients of all query heads that share it.
        auto shared = [&](const Tensor& g) { return at::sum(g.reshape({g.size(0), of_keys, -1, g.size(2), g.size(3)}), 2); };
        grad_key = shared(grad_key);
        grad_value = shared(grad_value);
        auto write = [&](const Tensor& g, const Tensor& main, const Tensor& rope, int64_t heads, int64_t first, int64_t length) {
            int64_t rope_width = rope.defined() && rope.numel() ? to_heads(rope, attention.layout, heads, first, length).size(-1) : 0;
            from_heads(g.narrow(-1, 0, g.size(-1) - rope_width), main, attention.layout, first, length);
            if (rope_width) from_heads(g.narrow(-1, g.size(-1) - rope_width, rope_width), rope, attention.layout, first, length);
        };
        write(grad_query, result.query, result.query_rope, attention.heads, piece.first_query, piece.queries);
        write(grad_key, result.key, result.key_rope, of_keys, piece.first_key, piece.keys);
        write(grad_value, result.value, Tensor(), of_keys, piece.first_key, piece.keys);
        if (x.pse.defined()) {
            Tensor grad_pse = at::sum_to(attention.pse_type == 1 ? grad_products : grad_scores, x.pse.sizes());
            Tensor place = packed(attention) && result.pse.size(0) > 1 ? result.pse.narrow(0, piece.index, 1) : result.pse;
            if (place.size(2) > 1) place = place.narrow(2, 0, piece.queries);
            place.narrow(3, 0, piece.keys).add_(grad_pse);
        }
        if (x.sink.defined()) {
            Tensor of_sink = at::div(at::exp(at::sub(x.sink, maximum)), sum);
            result.sink.sub_(at::sum(at::mul(of_sink, delta), {0, 2, 3}));
        }
    }
    return result;
}

}  // namespace npu_emulator
