// Convolutions, their gradients, and the unfolding of images into columns.
#include "widening.h"

// The cube unit multiplies half types into float32 sums that are rounded once. `cube_math_type` lets it round float32 inputs
// (HF32); the emulator does so only where precision noise asks for it.

OPERATOR(aclnnConvolution, Matmul,
         (Tensor self, Tensor weight, Tensor bias, Ints stride, Ints padding, Ints dilation, bool transposed, Ints output_padding,
          int64_t groups, Output out, int8_t cube_math_type),
         out = at::convolution(widened(self), widened(weight), widened_if_given(bias), stride.ref(), padding.ref(), dilation.ref(),
                               transposed, output_padding.ref(), groups))
OPERATOR(aclnnConvolutionBackward, Matmul,
         (Tensor grad, Tensor self, Tensor weight, Ints bias_sizes, Ints stride, Ints padding, Ints dilation, bool transposed,
          Ints output_padding, int64_t groups, Bools mask, int8_t cube_math_type, Output grad_self, Output grad_weight, Output grad_bias),
         {
             auto bias = bias_sizes.given ? at::OptionalIntArrayRef(bias_sizes.ref()) : at::OptionalIntArrayRef();
             auto [gx, gw, gb] =
                 at::convolution_backward(widened(grad), widened(self), widened(weight), bias, stride.ref(), padding.ref(), dilation.ref(),
                                          transposed, output_padding.ref(), groups, {mask[0], mask[1], mask[2]});
             grad_self = gx;
             grad_weight = gw;
             grad_bias = gb;
         })
OPERATOR(aclnnConvDepthwise2d, Matmul,
         (Tensor self, Tensor weight, Ints kernel_size, Tensor bias, Ints stride, Ints padding, Ints dilation, Output out,
          int8_t cube_math_type),
         out = at::conv2d(widened(self), widened(weight), widened_if_given(bias), stride.ref(), padding.ref(), dilation.ref(),
                          self.size(-3)))
OPERATOR(aclnnConvTbc, Matmul, (Tensor self, Tensor weight, Tensor bias, int64_t pad, Output out, int8_t cube_math_type),
         out = at::conv_tbc(widened(self), widened(weight), widened(bias), pad))
OPERATOR(aclnnConvTbcBackward, Matmul,
         (Tensor grad, Tensor self, Tensor weight, Tensor bias, int64_t pad, int8_t cube_math_type, Output grad_self, Output grad_weight,
          Output grad_bias),
         {
             auto [gx, gw, gb] = at::conv_tbc_backward(widened(grad), widened(self), widened(weight), widened(bias), pad);
             grad_self = gx;
             grad_weight = gw;
             grad_bias = gb;
         })

OPERATOR(aclnnIm2col, Movement, (Tensor self, Ints kernel_size, Ints dilation, Ints padding, Ints stride, Output out),
         out = at::im2col(self, kernel_size, dilation, padding, stride))
OPERATOR(aclnnIm2colBackward, Accumulating,
         (Tensor self, Ints output_size, Ints kernel_size, Ints dilation, Ints padding, Ints stride, Output out),
         out = at::col2im(widened(self), output_size.ref(), kernel_size, dilation, padding, stride))
OPERATOR(aclnnChannelShuffle, Movement, (Tensor self, int64_t groups, Output out), out = at::channel_shuffle(self, groups))
