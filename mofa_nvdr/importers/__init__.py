"""Face models of others: one module for each format, all to mofa_nvdr.face.model.FaceModel."""
