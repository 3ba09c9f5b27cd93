"""Published hearing networks on the Hugging Face hub; none of their checksums is known to us for sure."""

from __future__ import annotations

from musicgenre.models.cards import WeightCard

ADDRESS = "https://huggingface.co/"

_WAVEFORM = "mono sound, 16 kHz, {}"
_STANDARD = "each recording scaled to mean 0 and variance 1"
_WAVLM_LICENCE = (
    "CC BY-SA 3.0, that of Microsoft's UniSpeech repository, to which its model card points. torchaudio, which hands "
    "the same weights on, calls them MIT: ask Microsoft before relying on either"
)
_WAVLM = "Chen et al., WavLM: large-scale self-supervised pre-training for full stack speech processing, 2021"


def _card(
    file: str,
    reads: str,
    licence: str,
    origin: str,
    citation: str,
    *,
    sample_rate_hz: int = 16_000,
    window_s: float | None = None,
    classes: int = 0,
) -> WeightCard:
    return WeightCard(
        name=file,
        model="transformer",
        file=file,
        url=ADDRESS + file,
        sha256="",
        reads=reads,
        sample_rate_hz=sample_rate_hz,
        window_s=window_s,
        classes=classes,
        licence=licence,
        origin=origin,
        citation=citation,
    )


CARDS = (
    _card(
        "facebook/wav2vec2-base",
        _WAVEFORM.format(_STANDARD),
        "Apache-2.0",
        "960 hours of LibriSpeech, read English, without labels; by Facebook AI",
        "Baevski, Zhou, Mohamed and Auli, wav2vec 2.0: a framework for self-supervised learning of speech "
        "representations, 2020",
    ),
    _card(
        "facebook/hubert-base-ls960",
        _WAVEFORM.format(_STANDARD),
        "Apache-2.0",
        "960 hours of LibriSpeech, read English, without labels; by Facebook AI",
        "Hsu et al., HuBERT: self-supervised speech representation learning by masked prediction of hidden units, "
        "2021",
    ),
    _card(
        "ntu-spml/distilhubert",
        _WAVEFORM.format("scaled as its processor says"),
        "Apache-2.0",
        "distilled from HuBERT base on LibriSpeech; by NTU Speech Processing and Machine Learning Lab",
        "Chang, Yang and Lee, DistilHuBERT: speech representation learning by layer-wise distillation of hidden-unit "
        "BERT, 2021",
    ),
    _card(
        "microsoft/wavlm-base",
        _WAVEFORM.format("scaled as its processor says"),
        _WAVLM_LICENCE,
        "960 hours of LibriSpeech, read English, without labels; by Microsoft",
        _WAVLM,
    ),
    _card(
        "microsoft/wavlm-base-plus",
        _WAVEFORM.format("scaled as its processor says"),
        _WAVLM_LICENCE,
        "94,000 hours of English speech (Libri-Light, GigaSpeech, VoxPopuli), without labels; by Microsoft",
        _WAVLM,
    ),
    _card(
        "m-a-p/MERT-v1-95M",
        f"mono sound, 24 kHz, {_STANDARD}",
        "CC BY-NC 4.0: not for commercial use",
        "20,000 hours of music, without labels; by the Multimodal Art Projection",
        "Li et al., MERT: acoustic music understanding model with large-scale self-supervised training, 2023",
        sample_rate_hz=24_000,
        window_s=5.0,
    ),
    _card(
        "MIT/ast-finetuned-audioset-10-10-0.4593",
        "mono sound, 16 kHz, as a log-mel spectrogram of 1,024 frames and 128 bands",
        "BSD-3-Clause",
        "AudioSet, from ImageNet weights; by Gong, Chung and Glass (MIT)",
        "Gong, Chung and Glass, AST: Audio Spectrogram Transformer, 2021",
        window_s=10.24,
        classes=527,
    ),
    _card(
        "laion/clap-htsat-unfused",
        "mono sound, 48 kHz, as a log-mel spectrogram of 1,001 frames and 64 bands",
        "Apache-2.0",
        "pairs of sound and text, LAION-Audio-630K among them; by LAION",
        "Wu et al., Large-scale contrastive language-audio pretraining with feature fusion and keyword-to-caption "
        "augmentation, 2022",
        sample_rate_hz=48_000,
        window_s=10.0,
    ),
)
