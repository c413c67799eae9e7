// Sorting, selection and search.
#include "widening.h"

/// Elements moved from `self`, and where they were.
static void assign(const Output& values, const Output& indices, const std::tuple<Tensor, Tensor>& found) {
    values = std::get<0>(found);
    indices = std::get<1>(found);
}

OPERATOR(aclnnSort, Movement, (Tensor self, bool stable, int64_t dim, bool descending, Output values, Output indices),
         assign(values, indices, at::sort(self, stable, dim, descending)))
OPERATOR(aclnnTopk, Movement, (Tensor self, int64_t k, int64_t dim, bool largest, bool sorted, Output values, Output indices),
         assign(values, indices, at::topk(self, k, dim, largest, sorted)))
OPERATOR(aclnnKthvalue, Movement, (Tensor self, int64_t k, int64_t dim, bool keepdim, Output values, Output indices),
         assign(values, indices, at::kthvalue(self, k, dim, keepdim)))

/// libtorch warns the user about operands that are not contiguous, which a card does not.
static std::optional<Tensor> contiguous_if_given(const Tensor& sorter) { return if_given(sorter.defined() ? sorter.contiguous() : sorter); }

OPERATOR(aclnnSearchSorted, Elementwise, (Tensor sorted_sequence, Tensor self, bool out_int32, bool right, Tensor sorter, Output out),
         out = at::searchsorted(sorted_sequence.contiguous(), self.contiguous(), out_int32, right, std::nullopt,
                                contiguous_if_given(sorter)))
OPERATOR(aclnnSearchSorteds, Elementwise, (Tensor sorted_sequence, Scalar self, bool out_int32, bool right, Tensor sorter, Output out),
         out = at::searchsorted(sorted_sequence.contiguous(), self, out_int32, right, std::nullopt, contiguous_if_given(sorter)))
OPERATOR(aclnnBucketize, Elementwise, (Tensor self, Tensor boundaries, bool out_int32, bool right, Output out),
         out = at::bucketize(self.contiguous(), boundaries.contiguous(), out_int32, right))
OPERATOR(aclnnIsInTensorScalar, Elementwise, (Tensor element, Scalar test_element, bool assume_unique, bool invert, Output out),
         out = at::isin(element, test_element, assume_unique, invert))
OPERATOR(aclnnIsInScalarTensor, Elementwise, (Scalar element, Tensor test_elements, bool assume_unique, bool invert, Output out),
         out = at::isin(element, test_elements, assume_unique, invert))
