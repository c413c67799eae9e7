// Resampling of images: upsampling, grid sampling.
#include "widening.h"

/// torch_npu passes 0 or a negative number where the scale is to follow from the sizes.
static std::optional<double> scale(double given) { return given > 0 ? std::optional<double>(given) : std::nullopt; }

// ---- nearest ----------------------------------------------------------------------------------------------------------------

OPERATOR(aclnnUpsampleNearest1d, Movement, (Tensor self, Ints output_size, Output out),
         out = at::upsample_nearest1d(self, output_size.ref()))
OPERATOR(aclnnUpsampleNearest1dV2, Movement, (Tensor self, Ints output_size, float scale_l, Output out),
         out = at::upsample_nearest1d(self, output_size.ref(), scale(scale_l)))
OPERATOR(aclnnUpsampleNearest2d, Movement, (Tensor self, Ints output_size, Output out),
         out = at::upsample_nearest2d(self, output_size.ref()))
OPERATOR(aclnnUpsampleNearest2dV2, Movement, (Tensor self, Ints output_size, float scale_h, float scale_w, Output out),
         out = at::upsample_nearest2d(self, output_size.ref(), scale(scale_h), scale(scale_w)))
OPERATOR(aclnnUpsampleNearest3d, Movement, (Tensor self, Ints output_size, double scale_d, double scale_h, double scale_w, Output out),
         out = at::upsample_nearest3d(self, output_size.ref(), scale(scale_d), scale(scale_h), scale(scale_w)))
OPERATOR(aclnnUpsampleNearestExact1d, Movement, (Tensor self, Ints output_size, double scale_l, Output out),
         out = at::_upsample_nearest_exact1d(self, output_size.ref(), scale(scale_l)))
OPERATOR(aclnnUpsampleNearestExact2d, Movement, (Tensor self, Ints output_size, double scale_h, double scale_w, Output out),
         out = at::_upsample_nearest_exact2d(self, output_size.ref(), scale(scale_h), scale(scale_w)))
OPERATOR(aclnnUpsampleNearestExact3d, Movement, (Tensor self, Ints output_size, double scale_d, double scale_h, double scale_w, Output out),
         out = at::_upsample_nearest_exact3d(self, output_size.ref(), scale(scale_d), scale(scale_h), scale(scale_w)))

OPERATOR(aclnnUpsampleNearest1dBackward, Accumulating, (Tensor grad, Ints output_size, Ints input_size, double scale_l, Output out),
         out = at::upsample_nearest1d_backward(widened(grad), output_size.ref(), input_size.ref(), scale(scale_l)))
OPERATOR(aclnnUpsampleNearest2dBackward, Accumulating,
         (Tensor grad, Ints output_size, Ints input_size, double scale_h, double scale_w, Output out),
         out = at::upsample_nearest2d_backward(widened(grad), output_size.ref(), input_size.ref(), scale(scale_h), scale(scale_w)))
OPERATOR(aclnnUpsampleNearest3dBackward, Accumulating,
         (Tensor grad, Ints output_size, Ints input_size, double scale_d, double scale_h, double scale_w, Output out),
         out = at::upsample_nearest3d_backward(widened(grad), output_size.ref(), input_size.ref(), scale(scale_d), scale(scale_h),
                                               scale(scale_w)))
OPERATOR(aclnnUpsampleNearestExact1dBackward, Accumulating, (Tensor grad, Ints output_size, Ints input_size, double scale_l, Output out),
         out = at::_upsample_nearest_exact1d_backward(widened(grad), output_size.ref(), input_size.ref(), scale(scale_l)))
OPERATOR(aclnnUpsampleNearestExact2dBackward, Accumulating,
         (Tensor grad, Ints output_size, Ints input_size, double scale_h, double scale_w, Output out),
         out = at::_upsample_nearest_exact2d_backward(widened(grad), output_size.ref(), input_size.ref(), scale(scale_h), scale(scale_w)))
OPERATOR(aclnnUpsampleNearestExact3dBackward, Accumulating,
         (Tensor grad, Ints output_size, Ints input_size, double scale_d, double scale_h, double scale_w, Output out),
         out = at::_upsample_nearest_exact3d_backward(widened(grad), output_size.ref(), input_size.ref(), scale(scale_d), scale(scale_h),
                                                      scale(scale_w)))

// ---- linear and cubic ----------------------------------------------------------------------------------------------------------

OPERATOR(aclnnUpsampleLinear1d, Accumulating, (Tensor self, Ints output_size, bool align_corners, double scale_l, Output out),
         out = at::upsample_linear1d(widened(self), output_size.ref(), align_corners, scale(scale_l)))
OPERATOR(aclnnUpsampleLinear1dBackward, Accumulating,
         (Tensor grad, Ints output_size, Ints input_size, bool align_corners, double scale_l, Output out),
         out = at::upsample_linear1d_backward(widened(grad), output_size.ref(), input_size.ref(), align_corners, scale(scale_l)))
OPERATOR(aclnnUpsampleTrilinear3d, Accumulating,
         (Tensor self, Ints output_size, bool align_corners, double scale_d, double scale_h, double scale_w, Output out),
         out = at::upsample_trilinear3d(widened(self), output_size.ref(), align_corners, scale(scale_d), scale(scale_h), scale(scale_w)))
OPERATOR(aclnnUpsampleTrilinear3dBackward, Accumulating,
         (Tensor grad, Ints output_size, Ints input_size, bool align_corners, double scale_d, double scale_h, double scale_w, Output out),
         out = at::upsample_trilinear3d_backward(widened(grad), output_size.ref(), input_size.ref(), align_corners, scale(scale_d),
                                                 scale(scale_h), scale(scale_w)))

#define UPSAMPLE_2D(NAME, FUNCTION)                                                                                               \
    OPERATOR(NAME, Accumulating, (Tensor self, Ints output_size, bool align_corners, double scale_h, double scale_w, Output out), \
             out = at::FUNCTION(widened(self), output_size.ref(), align_corners, scale(scale_h), scale(scale_w)))
#define UPSAMPLE_2D_BACKWARD(NAME, FUNCTION)                                                                                   \
    OPERATOR(NAME, Accumulating,                                                                                               \
             (Tensor grad, Ints output_size, Ints input_size, bool align_corners, double scale_h, double scale_w, Output out), \
             out = at::FUNCTION(widened(grad), output_size.ref(), input_size.ref(), align_corners, scale(scale_h), scale(scale_w)))
UPSAMPLE_2D(aclnnUpsampleBilinear2d, upsample_bilinear2d)
UPSAMPLE_2D(aclnnUpsampleBilinear2dAA, _upsample_bilinear2d_aa)
UPSAMPLE_2D(aclnnUpsampleBicubic2d, upsample_bicubic2d)
UPSAMPLE_2D(aclnnUpsampleBicubic2dAA, _upsample_bicubic2d_aa)
UPSAMPLE_2D_BACKWARD(aclnnUpsampleBilinear2dBackward, upsample_bilinear2d_backward)
UPSAMPLE_2D_BACKWARD(aclnnUpsampleBilinear2dBackwardV2, upsample_bilinear2d_backward)
UPSAMPLE_2D_BACKWARD(aclnnUpsampleBilinear2dAABackward, _upsample_bilinear2d_aa_backward)
UPSAMPLE_2D_BACKWARD(aclnnUpsampleBicubic2dBackward, upsample_bicubic2d_backward)
UPSAMPLE_2D_BACKWARD(aclnnUpsampleBicubic2dAAGrad, _upsample_bicubic2d_aa_backward)

// ---- grids ------------------------------------------------------------------------------------------------------------------------

OPERATOR(aclnnAffineGrid, Accumulating, (Tensor theta, Ints size, bool align_corners, Output out),
         out = at::affine_grid_generator(widened(theta), size.ref(), align_corners))
OPERATOR(aclnnGridSampler2D, Accumulating, (Tensor self, Tensor grid, int64_t mode, int64_t padding, bool align_corners, Output out),
         out = at::grid_sampler_2d(widened(self), widened(grid), mode, padding, align_corners))
OPERATOR(aclnnGridSampler3D, Accumulating, (Tensor self, Tensor grid, int64_t mode, int64_t padding, bool align_corners, Output out),
         out = at::grid_sampler_3d(widened(self), widened(grid), mode, padding, align_corners))
OPERATOR(aclnnGridSampler2DBackward, Accumulating,
         (Tensor grad, Tensor self, Tensor grid, int64_t mode, int64_t padding, bool align_corners, Bools mask, Output grad_self,
          Output grad_grid),
         {
             auto [gx, gg] = at::grid_sampler_2d_backward(widened(grad), widened(self), widened(grid), mode, padding, align_corners,
                                                          {mask[0], mask[1]});
             if (mask[0]) grad_self = gx;
             if (mask[1]) grad_grid = gg;
         })
OPERATOR(aclnnGridSampler3DBackward, Accumulating,
         (Tensor grad, Tensor self, Tensor grid, int64_t mode, int64_t padding, bool align_corners, Bools mask, Output grad_self,
          Output grad_grid),
         {
             auto [gx, gg] = at::grid_sampler_3d_backward(widened(grad), widened(self), widened(grid), mode, padding, align_corners,
                                                          {mask[0], mask[1]});
             if (mask[0]) grad_self = gx;
             if (mask[1]) grad_grid = gg;
         })
