// Rotary position embedding.
#include "widening.h"

namespace {

// torch_npu's rotary modes.
constexpr int64_t kHalf = 0;
constexpr int64_t kInterleave = 1;
constexpr int64_t kQuarter = 2;
constexpr int64_t kInterleaveHalf = 3;

/// Pairs each number with its partner, turned by 90 degrees: (a, b) becomes (-b, a).
Tensor turned(const Tensor& x, int64_t mode) {
    if (mode == kInterleave) {
        Tensor pairs = x.reshape({-1, x.size(-1) / 2, 2});
        return at::stack({at::neg(pairs.select(-1, 1)), pairs.select(-1, 0)}, -1).view(x.sizes());
    }
    auto parts = at::chunk(x, mode == kQuarter ? 4 : 2, -1);
    for (size_t i = 0; i < parts.size(); i += 2) {
        Tensor first = parts[i];
        parts[i] = at::neg(parts[i + 1]);
        parts[i + 1] = first;
    }
    return at::cat(parts, -1);
}

/// Mode interleave-half sorts the even places before the odd ones, and then works like half.
Tensor sorted(const Tensor& x, int64_t mode) {
    if (mode != kInterleaveHalf) return x;
    int64_t width = x.size(-1);
    return at::cat({x.slice(-1, 0, width, 2), x.slice(-1, 1, width, 2)}, -1);
}
Tensor unsorted(const Tensor& x, int64_t mode) {
    if (mode != kInterleaveHalf) return x;
    auto halves = at::chunk(x, 2, -1);
    return at::stack({halves[0], halves[1]}, -1).flatten(-2);
}

Tensor rotated(const Tensor& self, const Tensor& cos, const Tensor& sin, int64_t mode) {
    TORCH_CHECK(mode >= kHalf && mode <= kInterleaveHalf, "rotary mode ", mode, " is not supported");
    Tensor x = sorted(widened(self), mode);
    return at::add(at::mul(x, widened(cos)), at::mul(turned(x, mode), widened(sin)));
}

int64_t mode_named(const Text& name) {
    if (name == "half") return kHalf;
    if (name == "interleave") return kInterleave;
    TORCH_CHECK(name == "quarter", "rotary_mode ", name, " is not supported (half, interleave, quarter)");
    return kQuarter;
}

}  // namespace

OPERATOR(aclnnRotaryPositionEmbedding, Elementwise, (Tensor self, Tensor cos, Tensor sin, int64_t mode, Output out),
         out = rotated(self, cos, sin, mode))
OPERATOR(aclnnRotaryPositionEmbeddingGrad, Accumulating,
         (Tensor grad, Tensor cos, Tensor sin, Tensor self, int64_t mode, Output grad_self, Output grad_cos, Output grad_sin), {
             Tensor dy = widened(grad);
             Tensor along = at::mul(dy, widened(cos));
             Tensor across = turned(at::mul(dy, widened(sin)), mode);
             grad_self = unsorted(at::sub(along, across), mode);  // a turn back is the negative of a turn
             // torch_npu passes no input where it does not need the other two.
             Tensor x = self.defined() ? sorted(widened(self), mode) : at::zeros_like(dy);
             grad_cos = at::sum_to(at::mul(dy, x), cos.sizes());
             grad_sin = at::sum_to(at::mul(dy, turned(x, mode)), sin.sizes());
         })

// In place. The layout (BSND, SBND, BNSD, TND) only says which dimensions of cos and sin have size 1.
OPERATOR(aclnnApplyRotaryPosEmb, Elementwise, (Output query, Output key, Tensor cos, Tensor sin, int64_t layout), {
    query = rotated(query, cos, sin, kHalf);
    key = rotated(key, cos, sin, kHalf);
})
OPERATOR(aclnnApplyRotaryPosEmbV2, Elementwise, (Output query, Output key, Tensor cos, Tensor sin, int64_t layout, Text rotary_mode), {
    query = rotated(query, cos, sin, mode_named(rotary_mode));
    key = rotated(key, cos, sin, mode_named(rotary_mode));
})
