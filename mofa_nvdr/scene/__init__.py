"""What is in front of the camera and how it is lit: pose, camera, normals, light."""
