// Padding with a constant, with reflections and with repetitions of the border, and the gradients.
#include "widening.h"

OPERATOR(aclnnConstantPadNd, Movement, (Tensor self, Ints pad, Scalar value, Output out), out = at::constant_pad_nd(self, pad.ref(), value))

#define PADDING(NAME, FUNCTION)                                                                                       \
    OPERATOR(aclnn##NAME, Movement, (Tensor self, Ints padding, Output out), out = at::FUNCTION(self, padding.ref())) \
    OPERATOR(aclnn##NAME##Backward, Accumulating, (Tensor grad_output, Tensor self, Ints padding, Output grad_input), \
             grad_input = at::FUNCTION##_backward(widened(grad_output), widened(self), padding.ref()))

PADDING(ReflectionPad1d, reflection_pad1d)
PADDING(ReflectionPad2d, reflection_pad2d)
PADDING(ReflectionPad3d, reflection_pad3d)
PADDING(ReplicationPad1d, replication_pad1d)
PADDING(ReplicationPad2d, replication_pad2d)
PADDING(ReplicationPad3d, replication_pad3d)
