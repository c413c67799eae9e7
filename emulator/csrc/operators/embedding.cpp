// Embedding tables: look-up, bags, renormalisation, and the gradient of the table.
#include "widening.h"

OPERATOR(aclnnEmbedding, Movement, (Tensor weight, Tensor indices, Output out), out = at::embedding(weight, indices.to(at::kLong)))
OPERATOR(aclnnEmbeddingDenseBackward, Accumulating,
         (Tensor grad, Tensor indices, int64_t num_weights, int64_t padding_idx, bool scale_grad_by_freq, Output out),
         out = at::embedding_dense_backward(widened(grad), indices.to(at::kLong), num_weights, padding_idx, scale_grad_by_freq))

// ---- bags --------------------------------------------------------------------------------------------------------------------

/// Some chips' buffers are longer than the result (Ascend950 counts the last offset as a bag) or absent.
static void write_start(const Output& out, const Tensor& value) {
    if (!out->defined() || out->numel() == 0) return;
    out->zero_();
    int64_t common = std::min(out->numel(), value.numel());
    out->view({-1}).narrow(0, 0, common).copy_(value.reshape({-1}).narrow(0, 0, common));
}
OPERATOR(aclnnEmbeddingBag, Accumulating,
         (Tensor weight, Tensor indices, Tensor offsets, bool scale_grad_by_freq, int64_t mode, bool sparse, Tensor per_sample_weights,
          bool include_last_offset, int64_t padding_idx, Output out, Output offset2bag, Output bag_size, Output max_indices),
         {
             auto [bags, bag_of_index, size, winners] =
                 at::_embedding_bag(widened(weight), indices.to(at::kLong), offsets.to(at::kLong), scale_grad_by_freq, mode,
                                    /*sparse=*/false, widened_if_given(per_sample_weights), include_last_offset, padding_idx);
             out = bags;
             write_start(offset2bag, bag_of_index);
             write_start(bag_size, size);
             write_start(max_indices, winners);
         })

// ---- renormalisation -----------------------------------------------------------------------------------------------------------

OPERATOR(aclnnEmbeddingRenorm, Accumulating, (Output self, Tensor indices, double max_norm, double norm_type),
         self = at::embedding_renorm(widened(self), indices.to(at::kLong), max_norm, norm_type))
OPERATOR(aclnnRenorm, Accumulating, (Tensor self, Scalar p, int64_t dim, Scalar max_norm, Output out),
         out = at::renorm(widened(self), p, dim, max_norm))
OPERATOR(aclnnInplaceRenorm, Accumulating, (Output self, Scalar p, int64_t dim, Scalar max_norm),
         self = at::renorm(widened(self), p, dim, max_norm))
