"""Networks that read an image into a small array and write one from it, for any family.

A coder is a part (`research.parts`) with

    positions(config) -> how many positions the two process for one image
    latent_sides(model) -> height and width of the small array
    build(model, hardware, features, outputs) -> two modules: the encoder, of image [B, H, W, C] and
        label [B] -> [B, h, w, features], and the decoder, of latent [B, h, w, any] and label [B]
        -> [B, H, W, outputs], both in float32; label is None where `model.num_classes` is 0

An autoencoder has both of them; others a decoder as a generator, or an encoder as what judges.
"""

CODERS = {
    "conv_autoencoder": "research.models.conv_autoencoder",
    "mlp_coder": "research.models.mlp_coder",
    "style_coder": "research.models.style_coder",
    "transformer_coder": "research.models.transformer_coder",
}
