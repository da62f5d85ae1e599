"""What can be read off a training, beside it or afterwards: curvature, instabilities, valleys."""
