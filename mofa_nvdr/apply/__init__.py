"""What people do with a trained run or a face: reconstruct, relight, export."""
