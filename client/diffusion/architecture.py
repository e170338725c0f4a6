"""The small Stable Diffusion pipeline that pre-training starts from: its sizes, tokenizer and scheduler.

About ten million parameters, 20 MB in fp16. Latents are 8x8 with 16 channels: as many values as 16x16
with 4, but a UNet twice as wide costs the same on them.
"""

from __future__ import annotations

import json

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

IMAGE_SIZE = 64
LATENT_CHANNELS = 16
VOCABULARY = 2048
TOKENS = 16
TEXT_WIDTH = 128

_START, _END = "<|startoftext|>", "<|endoftext|>"


def build_vae() -> AutoencoderKL:
    """64x64x3 images <-> 8x8x16 latents."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64, 96),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=IMAGE_SIZE,
    )


def build_unet() -> UNet2DConditionModel:
    """Two levels, attention to the text on the finer one and in the middle."""
    return UNet2DConditionModel(
        sample_size=IMAGE_SIZE // 8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=1,
        block_out_channels=(128, 192),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=16,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A CLIP text model of two layers."""
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    # CLIP initialises embeddings at 0.02; a model that sees some words rarely needs them audible at once,
    # and the other styles' words, which pre-training never sees, at the same scale as the rest.
    embeddings = encoder.get_input_embeddings().weight
    torch.nn.init.normal_(embeddings, std=0.5)
    return encoder


def build_scheduler() -> DDIMScheduler:
    """1000 scaled-linear steps, v-prediction, sampled by DDIM."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )


def build_tokenizer(captions: list[str]) -> CLIPTokenizer:
    """A CLIP tokenizer whose byte-pair vocabulary is learned from `captions`."""
    clip = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = clip.normalizer, clip.pre_tokenizer
    # As in CLIP's own vocabulary every byte comes first, within a word and at its end, so that no caption
    # holds an unknown token. Those at the end pose as special tokens: the learner would number them in
    # the random order of a hash table, and break ties between merges by that number.
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    endings = [f"{letter}</w>" for letter in letters]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2,
        initial_alphabet=letters,
        special_tokens=endings,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    tokens = [*letters, *endings, *(left + right for left, right in merges), _START, _END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)
