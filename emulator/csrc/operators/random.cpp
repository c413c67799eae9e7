// Random numbers: uniform, normal, Bernoulli and integer fills, exponential, permutations, multinomial draws.
#include "random.h"

#include <random>

namespace npu_emulator {

at::Generator generator_for(uint64_t seed, uint64_t offset) {
    for (auto* fault : current_faults()) {
        if (fault->find("same-seed")) seed = offset = 0;
        if (fault->find("ignore-seed")) {
            std::random_device entropy;
            seed = (static_cast<uint64_t>(entropy()) << 32) | entropy();
        }
    }
    // The CPU's Mersenne Twister takes 32 bits of a seed, so neighbouring pairs have to be mixed first (splitmix64's finaliser).
    uint64_t mixed = seed * 0x9E3779B97F4A7C15ull + offset;
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9ull;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBull;
    return at::detail::createCPUGenerator(mixed ^ (mixed >> 31));
}

}  // namespace npu_emulator

/// Drawn densely and then copied, so that the numbers depend on the pair, the shape and the dtype, not on the output's strides.
static Tensor dense(const Output& self) { return at::empty(self->sizes(), self->options()); }

OPERATOR(aclnnInplaceUniform, Random, (Output self, double from, double to, int64_t seed, int64_t offset),
         self = dense(self).uniform_(from, to, generator_for(seed, offset)))
OPERATOR(aclnnInplaceNormal, Random, (Output self, float mean, float std, int64_t seed, int64_t offset),
         self = dense(self).normal_(mean, std, generator_for(seed, offset)))
OPERATOR(aclnnNormalFloatFloat, Random, (float mean, float std, int64_t seed, int64_t offset, Output out),
         out = dense(out).normal_(mean, std, generator_for(seed, offset)))
OPERATOR(aclnnNormalTensorFloat, Random, (Tensor mean, float std, int64_t seed, int64_t offset, Output out),
         out = at::normal(mean, std, generator_for(seed, offset)))
OPERATOR(aclnnNormalFloatTensor, Random, (float mean, Tensor std, int64_t seed, int64_t offset, Output out),
         out = at::normal(mean, std, generator_for(seed, offset)))
OPERATOR(aclnnNormalTensorTensor, Random, (Tensor mean, Tensor std, int64_t seed, int64_t offset, Output out),
         out = at::normal(mean, std, generator_for(seed, offset)))
OPERATOR(aclnnSimThreadExponential, Random, (Output self, int64_t count, double lambda, int64_t seed, int64_t offset),
         self = dense(self).exponential_(lambda, generator_for(seed, offset)))

OPERATOR(aclnnInplaceBernoulli, Random, (Output self, Scalar p, uint64_t seed, uint64_t offset),
         self = dense(self).bernoulli_(p.toDouble(), generator_for(seed, offset)))
OPERATOR(aclnnInplaceBernoulliTensor, Random, (Output self, Tensor p, uint64_t seed, uint64_t offset),
         self = dense(self).bernoulli_(p, generator_for(seed, offset)))
OPERATOR(aclnnInplaceRandom, Random, (Output self, int64_t from, int64_t to, uint64_t seed, uint64_t offset),
         self = dense(self).random_(from, to, generator_for(seed, offset)))
OPERATOR(aclnnInplaceRandomWithoutFromTo, Random, (Output self, uint64_t seed, uint64_t offset),
         self = dense(self).random_(generator_for(seed, offset)))

OPERATOR(aclnnRandperm, Random, (int64_t n, uint64_t seed, uint64_t offset, Output out),
         out = at::randperm(n, generator_for(seed, offset), at::kLong))
OPERATOR(aclnnMultinomial, Random, (Tensor self, int64_t num_samples, bool replacement, uint64_t seed, uint64_t offset, Output out),
         out = at::multinomial(self.to(at::kFloat), num_samples, replacement, generator_for(seed, offset)))
