"""What can be read off a training afterwards: curvature, instabilities, valleys."""
