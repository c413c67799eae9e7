// Dropout: drawing masks and applying them.
#include "dropout.h"

#include "random.h"
#include "widening.h"

namespace npu_emulator {

Tensor unpack_keep_mask(const Tensor& mask, int64_t numel) {
    TORCH_CHECK(mask.numel() * 8 >= numel, "a dropout mask of ", mask.numel(), " bytes is too small for ", numel, " elements");
    Tensor bytes = mask.contiguous(), keep = at::empty({numel}, at::kBool);
    auto* packed = static_cast<const uint8_t*>(bytes.data_ptr());
    auto* bits = keep.data_ptr<bool>();
    for (int64_t i = 0; i < numel; i++) bits[i] = packed[i / 8] >> (i % 8) & 1;
    return keep;
}

Tensor pack_keep_mask(const Tensor& keep, int64_t bytes) {
    TORCH_CHECK(keep.numel() <= 8 * bytes, keep.numel(), " elements do not fit a dropout mask of ", bytes, " bytes");
    Tensor dense = keep.contiguous(), mask = at::zeros({bytes}, at::kByte);
    auto* bits = dense.data_ptr<bool>();
    auto* packed = mask.data_ptr<uint8_t>();
    for (int64_t i = 0; i < dense.numel(); i++) packed[i / 8] |= bits[i] << (i % 8);
    return mask;
}

}  // namespace npu_emulator

static Tensor drawn_mask(int64_t numel, int64_t bytes, double p, int64_t seed, int64_t offset) {
    return pack_keep_mask(at::empty({numel}, at::kBool).bernoulli_(1 - p, generator_for(seed, offset)), bytes);
}

static Tensor dropped(const Tensor& self, const Tensor& mask, double p) {
    if (p >= 1) return at::zeros_like(self);
    Tensor keep = unpack_keep_mask(mask, self.numel()).view(self.sizes());
    return at::mul(at::mul(widened(self), keep), 1 / (1 - p));
}

OPERATOR(aclnnDropoutGenMask, Random, (Ints shape, double p, int64_t seed, int64_t offset, Output mask),
         mask = drawn_mask(c10::multiply_integers(shape.values), mask->numel(), p, seed, offset))
OPERATOR(aclnnDropoutGenMaskV2, Random, (Ints shape, double p, int64_t seed, int64_t offset, DType dtype_of_p, Output mask),
         mask = drawn_mask(c10::multiply_integers(shape.values), mask->numel(), p, seed, offset))
OPERATOR(aclnnDropoutDoMask, Elementwise, (Tensor self, Tensor mask, double p, Output out), out = dropped(self, mask, p))
OPERATOR(aclnnDropoutV3, Random, (Tensor self, Tensor noise_shape, double p, int64_t seed, int64_t offset, Output out, Output mask),
         TORCH_CHECK(!noise_shape.defined(), "a noise shape is not supported: torch_npu passes none");
         mask = drawn_mask(self.numel(), mask->numel(), p, seed, offset); out = dropped(self, mask, p))
