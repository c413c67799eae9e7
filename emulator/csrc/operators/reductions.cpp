// Reductions over dimensions: sums, products, means, norms, variances, extrema, quantifiers, medians, histograms.
#include "widening.h"

/// The dtype in which a reduction with this `dtype` argument is computed: half types are summed in float32 and rounded once.
static std::optional<DType> accumulator(DType dtype) {
    if (dtype == DType::Undefined) return std::nullopt;
    return dtype == at::kHalf || dtype == at::kBFloat16 ? at::kFloat : dtype;
}

// ---- sums, products, means --------------------------------------------------------------------------------------------------

OPERATOR(aclnnReduceSum, Accumulating, (Tensor self, Ints dims, bool keepdims, DType dtype, Output out),
         out = at::sum(self, dims.dims(), keepdims, accumulator(dtype)))
OPERATOR(aclnnReduceNansum, Accumulating, (Tensor self, Ints dim, bool keepdim, DType dtype, Output out),
         out = at::nansum(self, dim.dims(), keepdim, accumulator(dtype)))
OPERATOR(aclnnMean, Accumulating, (Tensor self, Ints dim, bool keepdim, DType dtype, Output out),
         out = at::mean(self, dim.dims(), keepdim, accumulator(dtype)))
OPERATOR(aclnnProd, Accumulating, (Tensor self, DType dtype, Output out), out = at::prod(widened(self), accumulator(dtype)))
OPERATOR(aclnnProdDim, Accumulating, (Tensor self, int64_t dim, bool keepdim, DType dtype, Output out),
         out = at::prod(widened(self), dim, keepdim, accumulator(dtype)))
OPERATOR(aclnnLogSumExp, Accumulating, (Tensor self, Ints dim, bool keepdim, Output out),
         out = at::logsumexp(widened(self), dim.ref(), keepdim))
OPERATOR(aclnnTrace, Accumulating, (Tensor self, Output out), out = at::sum(at::diagonal(self), accumulator(out->scalar_type())))

// ---- norms, variances ---------------------------------------------------------------------------------------------------------

OPERATOR(aclnnNorm, Accumulating, (Tensor self, Scalar p, Ints dim, bool keepdim, Output out), {
    if (std::isinf(p.toDouble())) executes_as(Kind::Elementwise);  // an extreme, in whichever order
    out = at::linalg_vector_norm(widened(self), p, dim.dims(), keepdim);
})
OPERATOR(aclnnLinalgVectorNorm, Accumulating, (Tensor self, Scalar ord, Ints dims, bool keepdims, DType dtype, Output out), {
    if (std::isinf(ord.toDouble())) executes_as(Kind::Elementwise);
    out = at::linalg_vector_norm(widened(self), ord, dims.dims(), keepdims, accumulator(dtype));
})

OPERATOR(aclnnVarCorrection, Accumulating, (Tensor self, Ints dim, int64_t correction, bool keepdim, Output out),
         out = at::var(self, dim.dims(), Scalar(correction), keepdim))
OPERATOR(aclnnStd, Accumulating, (Tensor self, Ints dim, int64_t correction, bool keepdim, Output out),
         out = at::std(self, dim.dims(), Scalar(correction), keepdim))
OPERATOR(aclnnVarMean, Accumulating, (Tensor self, Ints dim, int64_t correction, bool keepdim, Output var, Output mean), {
    auto [variances, means] = at::var_mean(self, dim.dims(), Scalar(correction), keepdim);
    var = variances;
    mean = means;
})
OPERATOR(aclnnStdMeanCorrection, Accumulating, (Tensor self, Ints dim, int64_t correction, bool keepdim, Output std, Output mean), {
    auto [deviations, means] = at::std_mean(self, dim.dims(), Scalar(correction), keepdim);
    std = deviations;
    mean = means;
})

// ---- extrema ------------------------------------------------------------------------------------------------------------------

/// An extremum, and where it is.
static void assign(const Output& values, const Output& indices, const std::tuple<Tensor, Tensor>& found) {
    values = std::get<0>(found);
    indices = std::get<1>(found);
}

OPERATOR(aclnnAmax, Elementwise, (Tensor self, Ints dim, bool keepdim, Output out), out = at::amax(self, dim.ref(), keepdim))
OPERATOR(aclnnAmin, Elementwise, (Tensor self, Ints dim, bool keepdim, Output out), out = at::amin(self, dim.ref(), keepdim))
OPERATOR(aclnnMax, Elementwise, (Tensor self, Output out), out = at::max(self))
OPERATOR(aclnnMin, Elementwise, (Tensor self, Output out), out = at::min(self))
OPERATOR(aclnnMaxDim, Elementwise, (Tensor self, int64_t dim, bool keepdim, Output out, Output indices),
         assign(out, indices, at::max(self, dim, keepdim)))
OPERATOR(aclnnMinDim, Elementwise, (Tensor self, int64_t dim, bool keepdim, Output out, Output indices),
         assign(out, indices, at::min(self, dim, keepdim)))
OPERATOR(aclnnAminmax, Elementwise, (Tensor self, Ints dim, bool keepdim, Output min, Output max), {
    min = at::amin(self, dim.ref(), keepdim);
    max = at::amax(self, dim.ref(), keepdim);
})
OPERATOR(aclnnAminmaxDim, Elementwise, (Tensor self, int64_t dim, bool keepdim, Output min, Output max), {
    min = at::amin(self, dim, keepdim);
    max = at::amax(self, dim, keepdim);
})
OPERATOR(aclnnAminmaxAll, Elementwise, (Tensor self, Output min, Output max), {
    min = at::min(self);
    max = at::max(self);
})
OPERATOR(aclnnArgMax, Elementwise, (Tensor self, int64_t dim, bool keepdim, Output out), out = at::argmax(self, dim, keepdim))
OPERATOR(aclnnArgMin, Elementwise, (Tensor self, int64_t dim, bool keepdim, Output out), out = at::argmin(self, dim, keepdim))

// ---- medians ------------------------------------------------------------------------------------------------------------------

OPERATOR(aclnnMedian, Elementwise, (Tensor self, Output out), out = at::median(self))
OPERATOR(aclnnNanMedian, Elementwise, (Tensor self, Output out), out = at::nanmedian(self))
OPERATOR(aclnnMedianDim, Elementwise, (Tensor self, int64_t dim, bool keepdim, Output values, Output indices),
         assign(values, indices, at::median(self, dim, keepdim)))
OPERATOR(aclnnNanMedianDim, Elementwise, (Tensor self, int64_t dim, bool keepdim, Output values, Output indices),
         assign(values, indices, at::nanmedian(self, dim, keepdim)))

// ---- quantifiers, counts --------------------------------------------------------------------------------------------------------

OPERATOR(aclnnAll, Elementwise, (Tensor self, Ints dim, bool keepdim, Output out), out = at::all(self.to(at::kBool), dim.dims(), keepdim))
OPERATOR(aclnnAny, Elementwise, (Tensor self, Ints dim, bool keepdim, Output out), out = at::any(self.to(at::kBool), dim.dims(), keepdim))

// torch counts floating-point numbers only; the device counts integers too.
OPERATOR(aclnnHistc, Elementwise, (Tensor self, int64_t bins, Scalar min, Scalar max, Output out),
         out = at::histc(at::isFloatingType(self.scalar_type()) ? widened(self) : self.to(at::kDouble), bins, min, max))
OPERATOR(aclnnBincount, Accumulating, (Tensor self, Tensor weights, int64_t minlength, Output out),
         out = at::bincount(self, if_given(weights), minlength))
