"""What stands before the camera and how it is lit: pose, camera, normals, light."""
