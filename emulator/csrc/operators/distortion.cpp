#include "distortion.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>

namespace npu_emulator {

namespace {

/// splitmix64 (Steele, Lea, Flood 2014): a well mixed function of its input.
uint64_t mix(uint64_t x) {
    x += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

uint64_t hash_of(const char* text) {
    uint64_t hash = 14695981039346656037ull;  // FNV-1a
    for (; *text; text++) hash = (hash ^ static_cast<unsigned char>(*text)) * 1099511628211ull;
    return hash;
}

/// Uniform in [-1, 1).
double symmetric(uint64_t random) { return static_cast<double>(static_cast<int64_t>(random)) / 9223372036854775808.0; }

template <class T>
struct BitsOf;
template <>
struct BitsOf<float> {
    using type = uint32_t;
    static constexpr type mantissa = 0x007FFFFF;
    static constexpr double epsilon = 1.1920929e-7;
};
template <>
struct BitsOf<at::Half> {
    using type = uint16_t;
    static constexpr type mantissa = 0x03FF;
    static constexpr double epsilon = 9.765625e-4;
};
template <>
struct BitsOf<at::BFloat16> {
    using type = uint16_t;
    static constexpr type mantissa = 0x007F;
    static constexpr double epsilon = 7.8125e-3;
};

/// Moves a finite non-zero number by `steps` units in the last place, away from zero for positive steps.
template <class T>
T move_by_ulp(T value, int64_t steps) {
    using Bits = typename BitsOf<T>::type;
    auto bits = std::bit_cast<Bits>(value);
    auto moved = std::bit_cast<T>(static_cast<Bits>(bits + steps));
    bool same_sign = (std::bit_cast<Bits>(moved) ^ bits) >> (8 * sizeof(Bits) - 1) == 0;
    return same_sign && std::isfinite(static_cast<float>(moved)) ? moved : value;
}

/// A result of few digits (1024 ones added up, the exponential of 0, the reciprocal of 4) was not rounded: it is the same in any order.
template <class T>
bool is_exact(typename BitsOf<T>::type mantissa) {
    return mantissa == 0 || (sizeof(T) == 4 && (mantissa & 0x3FF) == 0);
}

/// A number is perturbed by a function of its own digits, its place, the operator's name and the seed: equal computations stay equal, and
/// what is computed from inputs that are twice as large stays twice as large.
template <class T>
void perturb(const Tensor& output, const OperatorInfo& info, const Noise& noise) {
    Tensor dense = output.contiguous();
    T* values = dense.data_ptr<T>();
    int64_t count = dense.numel();
    uint64_t salt = mix(noise.seed) ^ hash_of(info.name);
    double scale = 0;
    if (info.kind != Kind::Approximate) {
        // What stands for minus infinity in a mask is no typical size.
        constexpr double kLargest = 1e30;
        Tensor wide = dense.to(at::kDouble);
        Tensor typical = at::where(at::lt(at::abs(wide), kLargest), wide, at::zeros_like(wide));
        // Sums of squares have no terms that cancel: where all have one sign, each is as exact as it is large.
        bool both_signs = at::gt(typical, 0).any().item<bool>() && at::lt(typical, 0).any().item<bool>();
        if (both_signs) scale = at::linalg_vector_norm(typical).item<double>() / std::sqrt(count);
    }
    for (int64_t i = 0; i < count; i++) {
        float value = static_cast<float>(values[i]);
        if (value == 0 || !std::isfinite(value)) continue;
        auto mantissa = static_cast<typename BitsOf<T>::type>(std::bit_cast<typename BitsOf<T>::type>(values[i]) & BitsOf<T>::mantissa);
        if (is_exact<T>(mantissa)) continue;
        uint64_t random = mix(salt ^ mantissa ^ mix(static_cast<uint64_t>(i)));
        if constexpr (sizeof(T) == 2) {
            // The device computes in float32 and rounds once, so a 16 bit result differs only where it lies close to a tie.
            if (random % 16 == 0) values[i] = move_by_ulp(values[i], random & 16 ? 1 : -1);
        } else if (info.kind == Kind::Approximate) {
            values[i] = move_by_ulp(values[i], static_cast<int64_t>(random % (2 * noise.ulp + 1)) - noise.ulp);
        } else {
            // Reordering a sum moves it by a few eps of its terms; the typical output stands for their size where terms cancel.
            T moved = static_cast<T>(value + symmetric(random) * BitsOf<T>::epsilon * (std::fabs(value) + scale));
            if (std::isfinite(static_cast<float>(moved))) values[i] = moved;  // the lowest number, of a mask, stays one
        }
    }
    output.copy_(dense);
}

Tensor rounded(const Tensor& output, const std::string& to) {
    if (to == "bf16") return output.to(at::kBFloat16);
    if (to == "fp16") return output.to(at::kHalf);
    return at::trunc(output);
}

}  // namespace

std::string dtype_name(at::ScalarType dtype) {
    switch (dtype) {
        case at::kFloat:
            return "fp32";
        case at::kHalf:
            return "fp16";
        case at::kBFloat16:
            return "bf16";
        case at::kDouble:
            return "fp64";
        case at::kLong:
            return "int64";
        case at::kInt:
            return "int32";
        case at::kShort:
            return "int16";
        case at::kChar:
            return "int8";
        case at::kByte:
            return "uint8";
        case at::kUInt16:
            return "uint16";
        case at::kUInt32:
            return "uint32";
        case at::kUInt64:
            return "uint64";
        case at::kBool:
            return "bool";
        case at::kComplexFloat:
            return "complex64";
        case at::kComplexDouble:
            return "complex128";
        default:
            return c10::toString(dtype);
    }
}

Tensor round_to_hf32(const Tensor& input) {
    if (!input.defined() || input.scalar_type() != at::kFloat) return input;
    Tensor bits = input.contiguous().view(at::kInt);
    constexpr int dropped = 23 - 10;
    Tensor half_way = at::bitwise_and(at::bitwise_right_shift(bits, dropped), 1).add((1 << (dropped - 1)) - 1);  // ties to even
    Tensor kept = at::bitwise_and(at::add(bits, half_way), ~((1 << dropped) - 1)).view(at::kFloat);
    return at::where(at::isfinite(input), kept.view(input.sizes()), input);
}

void add_noise(Tensor& output, const OperatorInfo& info) {
    const Noise& noise = settings().noise;
    bool applies = (info.kind == Kind::Approximate && noise.ulp > 0) ||
                   ((info.kind == Kind::Accumulating || info.kind == Kind::Matmul) && noise.reorder);
    if (!noise.on || !applies) return;
    switch (output.scalar_type()) {
        case at::kFloat:
            return perturb<float>(output, info, noise);
        case at::kHalf:
            return perturb<at::Half>(output, info, noise);
        case at::kBFloat16:
            return perturb<at::BFloat16>(output, info, noise);
        default:
            return;
    }
}

Tensor exchange_result(const char* name, size_t index, const Tensor& now) {
    static std::mutex mutex;
    static auto* results = new std::map<std::pair<std::string, size_t>, Tensor>;
    std::lock_guard lock(mutex);
    Tensor& kept = (*results)[{name, index}];
    Tensor previous = kept;
    kept = now.clone();
    return previous;
}

bool distort(Tensor& output, const Fault& fault, const char* name, const Tensor& before, const Tensor& previous) {
    bool real = output.is_floating_point();
    Tensor computed = output.clone();
    for (auto& [action, number, text] : fault.actions) {
        if (action == "zero") output.zero_();
        if (action == "stale") {
            if (previous.defined() && previous.sizes() == output.sizes()) output.copy_(previous);
        }
        if (action == "tail") {
            int64_t kept = std::max<int64_t>(0, output.numel() - static_cast<int64_t>(number));
            Tensor merged = at::cat({output.reshape({-1}).narrow(0, 0, kept), before.reshape({-1}).narrow(0, kept, output.numel() - kept)});
            output.copy_(merged.view(output.sizes()));
        }
        if (!real) continue;
        if (action == "scale") output.mul_(number);
        if (action == "bias") output.add_(number);
        if (action == "noise")
            output.mul_(at::randn(output.sizes(), at::detail::createCPUGenerator(hash_of(name)), at::kDouble)
                            .mul_(number)
                            .add_(1)
                            .to(output.scalar_type()));
        if (action == "clip") output.clamp_(-number, number);
        if (action == "round") output.copy_(rounded(output, text));
        if (action == "nan") {
            Tensor dense = output.clone().reshape({-1});
            dense.narrow(0, static_cast<int64_t>(number) % output.numel(), 1).fill_(NAN);
            output.copy_(dense.view(output.sizes()));
        }
    }
    Tensor unlike = at::ne(output, computed);
    if (real) unlike = at::logical_and(unlike, at::logical_not(at::logical_and(at::isnan(output), at::isnan(computed))));
    return unlike.any().item<bool>();
}

}  // namespace npu_emulator
