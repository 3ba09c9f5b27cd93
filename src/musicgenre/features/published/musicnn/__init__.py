"""The published MusiCNN and VGG taggers (musicnn 0.1.0): their weights, and their networks as ONNX graphs."""
