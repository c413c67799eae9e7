// Shape and movement: joining, splitting, repeating, flipping, rolling, slicing, triangles, unfolding.
#include "widening.h"

/// All in the dtype of the output.
static Tensors cast(const Tensors& tensors, const Output& out) {
    Tensors result;
    for (auto& tensor : tensors) result.push_back(tensor.to(out->scalar_type()));
    return result;
}

OPERATOR(aclnnCat, Movement, (Tensors tensors, int64_t dim, Output out), out = at::cat(cast(tensors, out), dim))
OPERATOR(aclnnStack, Movement, (Tensors tensors, int64_t dim, Output out), out = at::stack(cast(tensors, out), dim))
OPERATOR(aclnnChunkCat, Movement, (Tensors tensors, int64_t dim, int64_t num_chunks, Output out),
         out = at::_chunk_cat(tensors, dim, num_chunks))
OPERATOR(aclnnSplitWithSize, Movement, (Tensor self, Ints split_size, int64_t dim, Outputs out), {
    auto parts = at::split_with_sizes(self, split_size.ref(), dim);
    for (size_t i = 0; i < parts.size(); i++) out[i] = parts[i];
})

// ---- repeating ------------------------------------------------------------------------------------------------------------------

OPERATOR(aclnnRepeat, Movement, (Tensor self, Ints repeats, Output out), out = self.repeat(repeats.ref()))
OPERATOR(aclnnRepeatInterleave, Movement, (Tensor self, Tensor repeats, int64_t output_size, Output out),
         out = at::repeat_interleave(self.reshape({-1}), repeats))
OPERATOR(aclnnRepeatInterleaveWithDim, Movement, (Tensor self, Tensor repeats, int64_t dim, int64_t output_size, Output out),
         out = at::repeat_interleave(self, repeats, dim))
OPERATOR(aclnnRepeatInterleaveInt, Movement, (Tensor self, int64_t repeats, int64_t output_size, Output out),
         out = at::repeat_interleave(self.reshape({-1}), repeats))
OPERATOR(aclnnRepeatInterleaveIntWithDim, Movement, (Tensor self, int64_t repeats, int64_t dim, int64_t output_size, Output out),
         out = at::repeat_interleave(self, repeats, dim))
OPERATOR(aclnnRepeatInterleaveTensor, Movement, (Tensor repeats, int64_t output_size, Output out), out = at::repeat_interleave(repeats))
OPERATOR(aclnnRepeatInterleaveGrad, Accumulating, (Tensor grad, Tensor repeats, int64_t dim, Output out), {
    Tensor wide = widened(grad);
    out = at::zeros(out->sizes(), wide.options()).index_add_(dim, at::repeat_interleave(repeats), wide);
})

// ---- the same elements in another order ---------------------------------------------------------------------------------------------

OPERATOR(aclnnFlip, Movement, (Tensor self, Ints dims, Output out), out = at::flip(self, dims.ref()))
OPERATOR(aclnnRoll, Movement, (Tensor self, Ints shifts, Ints dims, Output out), out = at::roll(self, shifts.ref(), dims.ref()))
OPERATOR(aclnnConfusionTranspose, Movement, (Tensor self, Ints perm, Ints shape, bool transpose_first, Output out),
         out = transpose_first ? self.permute(perm.ref()).reshape(shape.ref()) : self.reshape(shape.ref()).permute(perm.ref()))

// ---- parts --------------------------------------------------------------------------------------------------------------------------

OPERATOR(aclnnStridedSlice, Movement,
         (Tensor self, Ints begin, Ints end, Ints strides, int64_t begin_mask, int64_t end_mask, int64_t ellipsis_mask,
          int64_t new_axis_mask, int64_t shrink_axis_mask, Output out),
         {
             TORCH_CHECK(ellipsis_mask == 0 && new_axis_mask == 0, "slices with an ellipsis or a new axis are not supported");
             Tensor part = self;
             for (int64_t dim = static_cast<int64_t>(begin.values.size()) - 1; dim >= 0; dim--) {
                 auto has = [dim](int64_t mask) { return (mask >> dim & 1) != 0; };
                 auto from = has(begin_mask) ? std::nullopt : std::optional<int64_t>(begin.values[dim]);
                 auto to = has(end_mask) ? std::nullopt : std::optional<int64_t>(end.values[dim]);
                 part = has(shrink_axis_mask) ? part.select(dim, begin.values[dim]) : part.slice(dim, from, to, strides.values[dim]);
             }
             out = part;
         })
OPERATOR(aclnnTril, Movement, (Tensor self, int64_t diagonal, Output out), out = at::tril(self, diagonal))
OPERATOR(aclnnTriu, Movement, (Tensor self, int64_t diagonal, Output out), out = at::triu(self, diagonal))
OPERATOR(aclnnInplaceTril, Movement, (Output self, int64_t diagonal), self = at::tril(self, diagonal))
OPERATOR(aclnnInplaceTriu, Movement, (Output self, int64_t diagonal), self = at::triu(self, diagonal))

OPERATOR(aclnnUnfoldGrad, Accumulating, (Tensor grad, Ints input_sizes, int64_t dim, int64_t size, int64_t step, Output grad_input),
         grad_input = at::unfold_backward(widened(grad), input_sizes.ref(), dim, size, step))
