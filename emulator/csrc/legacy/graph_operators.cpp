// Graph operators that torch_npu calls although it knows aclnn functions, or before it does: copies, shifts, reductions,
// norms, decompositions, distances, statistics of batches.
#include <climits>
#include <cmath>

#include "../operators/batch_normalisation.h"
#include "../operators/softmax.h"
#include "graph_operator.h"

// ---- copies --------------------------------------------------------------------------------------------------------------------

GRAPH_OPERATOR(BroadcastTo, Movement, call.output() = call.input(0).expand(call.output()->sizes()))
GRAPH_OPERATOR(Cast, Elementwise, call.output() = call.input(0))
GRAPH_OPERATOR(Identity, Movement, call.output() = call.input(0))
GRAPH_OPERATOR(Fill, Movement, call.output()->fill_(call.input(1).reshape({-1}).select(0, 0)))

// Parts of a tensor on their way to another card: a slice, or any view of the whole storage.
GRAPH_OPERATOR(Slice, Movement, {
    Tensor part = call.input(0);
    std::vector<int64_t> begins = call.dimensions(1);
    std::vector<int64_t> lengths = call.dimensions(2);
    for (int64_t d = 0; d < part.dim(); ++d) part = at::narrow(part, d, begins.at(d), lengths.at(d));
    call.output() = part;
})
GRAPH_OPERATOR(AsStrided, Movement, {
    std::vector<int64_t> offset = call.dimensions(3);
    call.output() = at::as_strided(call.input(0), call.dimensions(1), call.dimensions(2), offset.at(0));
})

// ---- shifts ---------------------------------------------------------------------------------------------------------------------

// For releases of torch_npu whose shift operators of Python know no aclnn function.
GRAPH_OPERATOR(LeftShift, Elementwise, call.output() = at::bitwise_left_shift(call.input(0), call.input(1)))
GRAPH_OPERATOR(RightShift, Elementwise, call.output() = at::bitwise_right_shift(call.input(0), call.input(1)))

// ---- sums -----------------------------------------------------------------------------------------------------------------------

/// All dimensions where the call names none.
static at::OptionalIntArrayRef these(const std::vector<int64_t>& dimensions) {
    return dimensions.empty() ? at::OptionalIntArrayRef() : at::OptionalIntArrayRef(dimensions);
}

GRAPH_OPERATOR(ReduceSum, Accumulating, call.output() = at::sum(widened(call.input(0)), these(call.dimensions(1))))
GRAPH_OPERATOR(ReduceMean, Accumulating, call.output() = at::mean(widened(call.input(0)), these(call.dimensions(1))))

// ---- norms ------------------------------------------------------------------------------------------------------------------------

/// torch_npu passes INT_MAX and INT_MIN, rounded to float32, for the infinities.
static double norm_order(const GraphCall& call) {
    double p = call.number("p", 2);
    if (p >= static_cast<float>(INT_MAX)) return INFINITY;
    return p <= static_cast<float>(INT_MIN) ? -INFINITY : p;
}

// A norm comes in two steps: the sum of the powers (or the extremum), and then its root.
GRAPH_OPERATOR(LpNormReduceV2, Accumulating, {
    Tensor magnitude = at::abs(widened(call.input(0)));
    std::vector<int64_t> dimensions = call.integers("axes");
    double p = norm_order(call);
    if (std::isinf(p)) executes_as(Kind::Elementwise);  // an extreme is the same in any order
    if (std::isinf(p))
        call.output() = p > 0 ? at::amax(magnitude, dimensions) : at::amin(magnitude, dimensions);
    else
        call.output() = at::sum(p == 0 ? magnitude.ne(0).to(magnitude.scalar_type()) : at::pow(magnitude, p), these(dimensions));
})
GRAPH_OPERATOR(LpNormUpdateV2, Approximate, {
    double p = norm_order(call);
    if (std::isinf(p) || p == 0) executes_as(Kind::Movement);
    call.output() = std::isinf(p) || p == 0 ? call.input(0) : at::pow(widened(call.input(0)), 1 / p);
})

// ---- decompositions -------------------------------------------------------------------------------------------------------------------

// For releases of torch_npu that do not know aclnnSvd. V, not the transpose that torch returns.
GRAPH_OPERATOR(Svd, Accumulating, {
    if (call.number("compute_uv", 1) == 0) {
        call.output(0) = at::linalg_svdvals(call.input(0));
        return;
    }
    auto [left, values, right] = at::linalg_svd(call.input(0), call.number("full_matrices", 0) != 0);
    call.output(0) = values;
    call.output(1) = left;
    call.output(2) = right.mT();
})

// ---- distances ----------------------------------------------------------------------------------------------------------------------

/// What each coordinate contributes to the gradient of the p-norm distance of two points; p is -1 for infinity.
static Tensor distance_gradient(const Tensor& grad, const Tensor& difference, const Tensor& distance, double p) {
    Tensor direction = at::sign(difference);
    Tensor magnitude = at::abs(difference);
    if (p == 0) return at::zeros_like(difference);
    if (p == 1) return at::mul(grad, direction);
    if (p < 0) return at::mul(grad, at::mul(direction, magnitude.eq(distance)));
    Tensor slope = at::mul(at::mul(direction, at::pow(magnitude, p - 1)), at::div(grad, at::pow(distance, p - 1)));
    Tensor flat = p < 1 ? at::logical_or(distance.eq(0), difference.eq(0)) : distance.eq(0);
    return at::masked_fill(slope, flat, 0);
}

// All inputs are broadcast to [..., points, other points, coordinates].
GRAPH_OPERATOR(CdistGrad, Accumulating, {
    Tensor each = distance_gradient(call.input(0), at::sub(call.input(1), call.input(2)), call.input(3), call.number("p", 2));
    call.output() = at::sum_to(at::sum(each, -2), call.output()->sizes());
})

// ---- synchronised batch normalisation -----------------------------------------------------------------------------------------------

// For releases of torch_npu that do not know aclnnBatchNormReduce and aclnnSyncBatchNormGatherStats.
GRAPH_OPERATOR(BNTrainingReduce, Accumulating, {
    Tensor self = widened(call.input(0));
    call.output(0) = sum_per_channel(self);
    call.output(1) = sum_per_channel(at::square(self));
})
GRAPH_OPERATOR(SyncBatchNormGatherStats, Accumulating, {
    Statistics all = statistics_of_sums(call.input(0), call.input(1), call.input(2));
    double momentum = call.number("momentum", 0.1);
    // The running statistics are inputs and outputs.
    Tensor mean = all.moved_mean(call.input(3), momentum);
    Tensor variance = all.moved_variance(call.input(4), momentum);
    call.output(0) = all.mean;
    call.output(1) = all.invstd(call.number("eps", 1e-3));
    call.output(2) = mean;
    call.output(3) = variance;
})

// ---- softmax --------------------------------------------------------------------------------------------------------------------------

GRAPH_OPERATOR(ScaledMaskedSoftmax, Accumulating,
               call.output() = scaled_masked_softmax(call.input(0), call.input(1), call.number("scale", 1),
                                                     call.number("fixed_triu_mask", 0) != 0))
GRAPH_OPERATOR(ScaledMaskedSoftmaxGrad, Accumulating,
               call.output() = scaled_masked_softmax_backward(call.input(0), call.input(1), call.input(2), call.number("scale", 1),
                                                              call.number("fixed_triu_mask", 0) != 0))
